/* Numbers as sacreBLEU has them, so that the last digit is its own: Python's floats, which are doubles, and NumPy's float32. What
 * comes of the two depends on NumPy's version. */
#ifndef PLUMB_NLP_BLEU_NUMBER_H
#define PLUMB_NLP_BLEU_NUMBER_H

#include <stdbool.h>

typedef enum {
    NUMPY_2, /* a float32 makes a float32 of a Python float that meets it */
    NUMPY_1, /* and of these two a double comes; only of two float32 a float32 */
} Numpy;

typedef struct {
    double value;
    bool single; /* a float32 */
} Number;

/* Where statistics stand, and so what their numbers are. */
typedef enum {
    KEPT_IN_PYTHON,  /* numbers of Python's */
    KEPT_IN_SINGLE,  /* an array of float32 */
    KEPT_IN_INTEGER, /* an array of int64: what is stored in it loses its fraction */
} Kept;

/* How to compute. */
typedef struct {
    Kept kept;
    Numpy numpy;
} Arithmetic;

static inline Number number_of(double value) { return (Number){.value = value}; }

static inline Number number_single(double value)
{
    return (Number){.value = (double)(float)value, .single = true};
}

static inline bool number_is_single(Number a, Number b, Numpy numpy)
{
    return numpy == NUMPY_2 ? a.single || b.single : a.single && b.single;
}

/* An operand of an operation among float32. One operation in double and one rounding give what float gives. */
static inline double number_operand(Number a, bool single)
{
    return single ? (double)(float)a.value : a.value;
}

static inline Number number_result(double value, bool single)
{
    return single ? number_single(value) : number_of(value);
}

static inline Number number_add(Number a, Number b, Numpy numpy)
{
    const bool single = number_is_single(a, b, numpy);
    return number_result(number_operand(a, single) + number_operand(b, single), single);
}

static inline Number number_multiply(Number a, Number b, Numpy numpy)
{
    const bool single = number_is_single(a, b, numpy);
    return number_result(number_operand(a, single) * number_operand(b, single), single);
}

static inline Number number_divide(Number a, Number b, Numpy numpy)
{
    const bool single = number_is_single(a, b, numpy);
    return number_result(number_operand(a, single) / number_operand(b, single), single);
}

#endif
