/* A libcuda.so.1 for tests: an NVIDIA driver that is older than the toolkit. CUDA's runtime asks it for
 * nothing else then. */
int cuDriverGetVersion(int *version);

int cuDriverGetVersion(int *version)
{
    *version = 11080;
    return 0;
}
