# The loops of the curves family: numbers bent to another distribution, or spread over splines.
# See feature_program for what each does.
from libc.float cimport DBL_EPSILON
from libc.math cimport NAN, copysign, exp, expm1, fabs, fmod, isinf, isnan, log, log1p, sqrt
from libc.stdint cimport int64_t

from gateway._fast.feature_numbers cimport bucket_of
from gateway._fast.feature_program cimport (
    FAILURE_OUTSIDE, MAX_SPLINE_DEGREE, OP_BOX_COX, OP_NORMAL_DEVIATE, OP_QUANTILE, OP_SPLINE, OP_WRAP, OP_YEO_JOHNSON,
    SPLINE_CONTINUE, SPLINE_ERROR, SPLINE_LINE, SPLINE_PERIODIC, Block, Instruction, fail, numbers_at,
)

cdef extern from "<math.h>" nogil:
    long double log1pl(long double x)
    long double expm1l(long double x)

cdef extern from *:
    """
    #define EXP_MINUS_2 0.13533528323661269189
    #define EXP_MINUS_32 1.2664165549094176e-14
    #define SQRT_2_PI 2.50662827463100050242
    """
    const double EXP_MINUS_2
    const double EXP_MINUS_32
    const double SQRT_2_PI


# --- powers

cdef inline double yeo_johnson(double x, double power) noexcept nogil:
    # Yeo and Johnson, "A new family of power transformations to improve normality or symmetry", Biometrika 87 (2000):
    # ((1 + x)^p - 1) / p from 0 on, -((1 - x)^(2 - p) - 1) / (2 - p) below, and their limits at p = 0 and p = 2.
    cdef double other = 2.0 - power
    if x >= 0.0:
        return rounded_log1p(x) if fabs(power) < DBL_EPSILON else grown(x, power)
    return -rounded_log1p(-x) if fabs(other) <= DBL_EPSILON else -grown(-x, other)


cdef inline double grown(double x, double power) noexcept nogil:
    # ((1 + x)^p - 1) / p as scipy rounds it, with the digits of values near 0. expm1(u) makes u ulp of one ulp in u, so
    # a logarithm that is off in its last bit is felt: libm's are, in 3 of 100 cases and otherwise than numpy's, which
    # are rounded correctly, but for 1 in 10,000, where a processor has AVX-512. So are these, on any processor.
    return rounded_expm1(power * rounded_log1p(x)) / power


cdef inline double rounded_log1p(double x) noexcept nogil:
    # Correctly, but for the 1 in 2,000 cases that the longer type rounds to the middle between two doubles.
    return <double>log1pl(<long double>x)


cdef inline double rounded_expm1(double x) noexcept nogil:
    return <double>expm1l(<long double>x)


cdef inline double box_cox(double x, double power) noexcept nogil:
    # Box and Cox, "An analysis of transformations", JRSS B 26 (1964): (x^p - 1) / p, its limit ln x at p = 0.
    # NaN at 0 and below.
    cdef double grown
    if not (x > 0.0):
        return NAN
    if fabs(power) < 1e-19:                # power * log(x) is then below the rounding of log(x) for every x
        return log(x)
    grown = power * log(x)
    if grown < 709.78:                     # of which exp is finite
        return expm1(grown) / power
    return copysign(1.0, power) * exp(grown - log(fabs(power))) - 1.0 / power


# --- quantiles

cdef inline double reference_of(int64_t place, int64_t count) noexcept nogil:
    # Evenly spaced from 0 to 1: the share of training's rows that lie below the quantile at `place`.
    if place == count - 1 and count > 1:
        return 1.0
    return <double>place * (1.0 / <double>(count - 1)) if place else 0.0


cdef inline int64_t count_below(const double* values, int64_t count, double x) noexcept nogil:
    # How many are < x; they ascend.
    cdef int64_t low = 0
    cdef int64_t high = count
    cdef int64_t middle
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < x:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline double share_below(const double* quantiles, int64_t count, double x, double margin) noexcept nogil:
    # The piecewise linear distribution function of the quantiles at x: interpolated upwards and downwards, and the mean
    # of both, which is the middle of the step where quantiles repeat. 0 and 1 within `margin` of the ends.
    cdef int64_t last = count - 1
    cdef int64_t low, high
    cdef double up, down, slope
    if isnan(x):
        return x
    if x == quantiles[0] or (margin > 0.0 and x - margin < quantiles[0]):
        return 0.0
    if x == quantiles[last] or (margin > 0.0 and x + margin > quantiles[last]):
        return 1.0
    low = bucket_of(quantiles, count, x) - 1       # the last quantile <= x
    high = count_below(quantiles, count, x)        # the first quantile >= x
    if low < 0:
        return reference_of(0, count)
    if high > last:
        return reference_of(last, count)
    if quantiles[low] == x:
        return 0.5 * (reference_of(low, count) + reference_of(high, count))
    slope = (reference_of(high, count) - reference_of(low, count)) / (quantiles[high] - quantiles[low])
    up = slope * (x - quantiles[low]) + reference_of(low, count)
    down = slope * (quantiles[high] - x) - reference_of(high, count)
    return 0.5 * (up - down)


cdef inline double normal_deviate(double p) noexcept nogil:
    # Where the standard normal distribution function is p, for exp(-32) < p < 1 - exp(-32): the rational approximations
    # of S. L. Moshier's Cephes Mathematical Library (ndtri, 1989). scipy computes by them, hence scikit-learn does, and
    # here every operation rounds as there: the deviates are the same to the last bit, which better ones would not be.
    cdef double tail = 1.0 - p if p > 1.0 - EXP_MINUS_2 else p
    cdef double distance, root, z, value
    if tail > EXP_MINUS_2:
        tail -= 0.5
        distance = tail * tail
        value = distance * ((((-5.99633501014107895267e1 * distance + 9.80010754185999661536e1) * distance
                              - 5.66762857469070293439e1) * distance + 1.39312609387279679503e1) * distance
                            - 1.23916583867381258016e0)
        value /= ((((((((distance + 1.95448858338141759834e0) * distance + 4.67627912898881538453e0) * distance
                       + 8.63602421390890590575e1) * distance - 2.25462687854119370527e2) * distance
                     + 2.00260212380060660359e2) * distance - 8.20372256168333339912e1) * distance
                   + 1.59056225126211695515e1) * distance - 1.18331621121330003142e0)
        return (tail + tail * value) * SQRT_2_PI
    root = sqrt(-2.0 * log(tail))
    z = 1.0 / root
    value = z * ((((((((4.05544892305962419923e0 * z + 3.15251094599893866154e1) * z
                       + 5.71628192246421288162e1) * z + 4.40805073893200834700e1) * z
                     + 1.46849561928858024014e1) * z + 2.18663306850790267539e0) * z
                   - 1.40256079171354495875e-1) * z - 3.50424626827848203418e-2) * z - 8.57456785154685413611e-4)
    value /= ((((((((z + 1.57799883256466749731e1) * z + 4.53907635128879210584e1) * z
                   + 4.13172038254672030440e1) * z + 1.50425385692907503408e1) * z
                 + 2.50464946208309415979e0) * z - 1.42182922854787788574e-1) * z
               - 3.80806407691578277194e-2) * z - 9.33259480895457427372e-4)
    value = root - log(root) / root - value
    return -value if tail == p else value


cdef inline double bounded_deviate(double p, double low, double high) noexcept nogil:
    # scikit-learn keeps the deviates of shares next to 0 and 1 finite.
    cdef double value
    if p <= EXP_MINUS_32:
        return low
    if p >= 1.0 - EXP_MINUS_32:
        return high
    value = p if isnan(p) else normal_deviate(p)
    return low if value < low else high if value > high else value


# --- splines

cdef inline double wrapped(double x, double low, double period) noexcept nogil:
    # x moved by whole periods into [low, low + period]; NaN if it is infinite.
    cdef double beyond = fmod(x - low, period)
    if beyond < 0.0:
        beyond += period
    return low + (beyond if beyond != 0.0 else 0.0)


cdef inline double b_spline(const double* knots, int64_t count, int degree, int64_t place, double x) noexcept nogil:
    # The B-spline `place` of the `count` knots at x; outside the first and last interval of the range, theirs goes on.
    # The recurrence of Cox and de Boor: C. de Boor, "A practical guide to splines" (1978), chapter X. Row by row, all
    # that are not 0 in x's interval.
    cdef int64_t interval = degree + bucket_of(knots + degree + 1, count - 2 * degree - 2, x)
    cdef double[MAX_SPLINE_DEGREE + 1] values
    cdef double left, right, share, from_left
    cdef int order, k
    if not (interval - degree <= place <= interval):
        return 0.0
    values[0] = 1.0
    for order in range(1, degree + 1):
        from_left = 0.0                    # what the B-spline of the order below, to the left, gives to this one
        for k in range(order):
            left = knots[interval + 1 + k - order]
            right = knots[interval + 1 + k]
            share = 0.0 if left == right else values[k] / (right - left)
            values[k] = from_left + share * (right - x)
            from_left = share * (x - left)
        values[order] = from_left
    return values[place - (interval - degree)] + 0.0        # never -0.0


cdef inline double line_beyond(double at_bound, double slope, double distance) noexcept nogil:
    # A slope of 0 goes on as far as infinity.
    return at_bound if slope == 0.0 else at_bound + distance * slope


cdef inline void run_spline(Block* block, const Instruction* step) noexcept nogil:
    cdef const double* knots = step.constants
    cdef const double* lines = knots + step.length         # value and slope at the lower bound, and at the upper one
    cdef int64_t count = step.length
    cdef int degree = <int>step.j
    cdef int beyond = <int>step.a
    cdef double low = knots[degree]
    cdef double high = knots[count - degree - 1]
    cdef int64_t period = count - 2 * degree - 1           # B-splines, after which they are the first ones again
    cdef const double* values = numbers_at(block, step.of)
    cdef double* to = numbers_at(block, step.to)
    cdef double x, value
    cdef int row
    for row in range(block.rows):
        x = values[row]
        if isnan(x):
            value = step.b
        elif beyond == SPLINE_LINE and x < low:
            value = line_beyond(lines[0], lines[1], x - low)
        elif beyond == SPLINE_LINE and x > high:
            value = line_beyond(lines[2], lines[3], x - high)
        elif beyond == SPLINE_ERROR and not (low <= x <= high):
            fail(block, row, step.column, FAILURE_OUTSIDE)
            value = NAN
        elif isinf(x):
            value = NAN
        else:
            value = b_spline(knots, count, degree, step.i, x)
            if beyond == SPLINE_PERIODIC and step.i < degree:
                value += b_spline(knots, count, degree, step.i + period, x)
        to[row] = value


cdef inline void run_curves(Block* block, const Instruction* step) noexcept nogil:
    cdef int operation = step.operation
    cdef int rows = block.rows
    cdef const double* x = numbers_at(block, step.of)
    cdef double* to = numbers_at(block, step.to)
    cdef int row
    if operation == OP_YEO_JOHNSON:
        for row in range(rows):
            to[row] = yeo_johnson(x[row], step.a)
    elif operation == OP_BOX_COX:
        for row in range(rows):
            to[row] = box_cox(x[row], step.a)
    elif operation == OP_QUANTILE:
        for row in range(rows):
            to[row] = share_below(step.constants, step.length, x[row], step.a)
    elif operation == OP_NORMAL_DEVIATE:
        for row in range(rows):
            to[row] = bounded_deviate(x[row], step.a, step.b)
    elif operation == OP_WRAP:
        for row in range(rows):
            to[row] = wrapped(x[row], step.a, step.b)
    elif operation == OP_SPLINE:
        run_spline(block, step)
