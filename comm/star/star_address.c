/* Where the hub is to be found, and how a rank gets there. */
#include "comm/star/star_frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

uint64_t star_largest_payload(int32_t kind, int size)
{
    enum { EXCHANGE = 1 << 30, MESSAGE = 1 << 16 };
    const uint64_t ranks = (uint64_t)size;
    const uint64_t largest[FRAME_KINDS] = {[FRAME_JOIN] = sizeof(JoinRequest),
                                           [FRAME_ACCEPTED] = sizeof(uint64_t),
                                           [FRAME_START] = ranks * HOST_NAME,
                                           [FRAME_PART] = EXCHANGE / ranks,
                                           [FRAME_RESULT] = EXCHANGE,
                                           [FRAME_MEMBERSHIP] = ranks * sizeof(MemberState),
                                           [FRAME_FAILED] = MESSAGE};
    return kind > 0 && kind < FRAME_KINDS ? largest[kind] : 0;
}

static Status listen_anywhere(StarAddress *address, int *listening)
{
    const int no = 0;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
    struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_ANY)}};
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    *listening = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*listening >= 0) {
        (void)setsockopt(*listening, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
        if (bind(*listening, (const struct sockaddr *)&any, sizeof any) != 0) {
            (void)close(*listening);
            *listening = -1;
        }
    }
    if (*listening < 0) { /* a host without IPv6 */
        *listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (*listening < 0 || bind(*listening, (const struct sockaddr *)&any4, sizeof any4) != 0)
            return fail(STATUS_IO, "rank 0 cannot open a port for the other ranks: %s", strerror(errno));
    }
    if (listen(*listening, SOMAXCONN) != 0 ||
        getsockname(*listening, (struct sockaddr *)&bound, &length) != 0)
        return fail(STATUS_IO, "rank 0 cannot open a port for the other ranks: %s", strerror(errno));
    address->port =
        ntohs(bound.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)(const void *)&bound)->sin6_port
                                          : ((const struct sockaddr_in *)(const void *)&bound)->sin_port);
    return OK;
}

/* The host's addresses; that of the host within itself last. */
static void list_addresses(StarAddress *address)
{
    enum { MOST = sizeof address->host / sizeof address->host[0] };
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) all = NULL;
    for (int loop = 0; loop < 2; ++loop)
        for (const struct ifaddrs *one = all; one != NULL && address->hosts < MOST; one = one->ifa_next) {
            if (one->ifa_addr == NULL || !(one->ifa_flags & IFF_UP)) continue;
            if (((one->ifa_flags & IFF_LOOPBACK) != 0) != (loop == 1)) continue;
            const int family = one->ifa_addr->sa_family;
            if (family != AF_INET && family != AF_INET6) continue;
            const socklen_t length =
                family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
            char *text = address->host[address->hosts];
            if (getnameinfo(one->ifa_addr, length, text, sizeof address->host[0], NULL, 0, NI_NUMERICHOST) ==
                    0 &&
                strchr(text, '%') == NULL) /* not of a link only */
                ++address->hosts;
        }
    if (all != NULL) freeifaddrs(all);
}

Status star_listen(StarAddress *address, int *listening)
{
    *listening = -1;
    *address = (StarAddress){.port = 0};
    if (getrandom(address->secret, sizeof address->secret, 0) != (ssize_t)sizeof address->secret)
        return fail(STATUS_IO, "the system gives no random numbers: %s", strerror(errno));
    list_addresses(address);
    return listen_anywhere(address, listening);
}

/* Waits until the file can be written or read. */
static bool wait_for(int file, short events, double seconds)
{
    struct pollfd one = {.fd = file, .events = events};
    return poll(&one, 1, (int)(1000 * seconds)) == 1;
}

static int connect_to(const char *host, int port, double seconds)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const bool is4 = inet_pton(AF_INET, host, &four.sin_addr) == 1;
    if (!is4 && inet_pton(AF_INET6, host, &six.sin6_addr) != 1) return -1;
    const int file = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (file < 0) return -1;
    const struct sockaddr *to = is4 ? (const struct sockaddr *)&four : (const struct sockaddr *)&six;
    int error = 0;
    socklen_t length = sizeof error;
    if (connect(file, to, is4 ? sizeof four : sizeof six) != 0 &&
        (errno != EINPROGRESS || !wait_for(file, POLLOUT, seconds) ||
         getsockopt(file, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)) {
        (void)close(file);
        return -1;
    }
    const int yes = 1;
    (void)setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return file;
}

/* Does the hub that is meant answer there? */
static bool request_to_join(int file, const StarAddress *address, const StarOptions *options, double seconds)
{
    struct {
        Frame frame;
        JoinRequest request;
    } mine = {.frame = {.magic = STAR_MAGIC, .kind = FRAME_JOIN, .bytes = sizeof(JoinRequest)},
              .request = {.secret = address->secret[0], .rank = options->rank, .size = options->size}};
    struct {
        Frame frame;
        uint64_t secret;
    } answer;
    (void)strncpy(mine.request.host, options->host, HOST_NAME - 1);
    if (send(file, &mine, sizeof mine, MSG_NOSIGNAL) != (ssize_t)sizeof mine) return false;
    size_t have = 0;
    const double until = seconds_now() + seconds;
    while (have < sizeof answer && seconds_now() < until) {
        if (!wait_for(file, POLLIN, until - seconds_now())) continue;
        const ssize_t got = recv(file, (char *)&answer + have, sizeof answer - have, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return false;
        if (got > 0) have += (size_t)got;
    }
    return have == sizeof answer && answer.frame.magic == STAR_MAGIC && answer.frame.kind == FRAME_ACCEPTED &&
           answer.secret == address->secret[1];
}

int star_connect(const StarAddress *address, const StarOptions *options, double seconds)
{
    for (int i = 0; i < address->hosts; ++i) {
        const int file = connect_to(address->host[i], address->port, seconds);
        if (file < 0) continue;
        if (request_to_join(file, address, options, 3 * seconds))
            return file; /* the host is there, and may be busy */
        (void)close(file);
    }
    return -1;
}
