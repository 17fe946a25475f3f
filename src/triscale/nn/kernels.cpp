// Batch norm, activation and depthwise convolution in training, on maps stored as [N, H, W, C] in float32 or bfloat16.
// Everything else is float32: bfloat16 values are widened when they are read, and rounded when they are written.
//
// A normalized map is never stored: each kernel reads the output y of the previous convolution and computes
// x = act((y - mean) * scale + shift) on the fly. Sums over rows are split into parts that depend only on the shape,
// and the parts are added in a fixed order, so results do not depend on the number of threads. Rows are summed in float,
// parts in double.
//
// The interface is plain C, called through ctypes (native.py); `half` says that maps are bfloat16. A function returns 1
// if memory has run out. The OpenMP functions are those of the process that loads the library, so the kernels share
// torch's threads.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

extern "C" {

// Geometry of a depthwise convolution, with the padding at the top and left.
struct Depthwise {
    long images, height, width, channels, out_height, out_width, kernel, stride, pad_top, pad_left;
};

// The input map x = act((y - mean) * scale + shift); mean, scale and shift are null for a plain map x = y.
struct Source {
    const void* y;
    const float *mean, *scale, *shift;
    long kind;
};

// The gradient of y from that of z = norm(y): dy = factor * (dz - offset - (y - mean) * tilt), see native.py.
struct Gradient {
    const void *dz, *y;
    const float *mean, *factor, *offset, *tilt;
};

}  // extern "C"

namespace {

enum Activation { NONE = 0, RELU = 1, RELU6 = 2, SILU = 3, SIGMOID = 4, HARD_SWISH = 5, HARD_SIGMOID = 6 };

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr long BLOCK = 256;       // channels per depthwise task
constexpr long WIDE = 256;        // floats per sweep: narrow rows are processed several at once
constexpr long FLUSH = 32;        // sweeps summed in float before they are added in double
constexpr long PARTS = 64;        // maximum number of parts of a sum
constexpr long PART_FLOATS = 1 << 15;  // minimum floats per part
typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef int32_t Integers __attribute__((vector_size(LANES * 4)));
typedef float Unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

// A value of a map in bfloat16: the upper half of a float.
struct BFloat {
    uint16_t bits;
};

// Initialized floats, aligned to a cache line (64 bytes).
class Buffer {
    float* data_;
    long size_;

  public:
    explicit Buffer(long size, float value = 0.0f) : size_(size) {
        data_ = static_cast<float*>(std::aligned_alloc(64, (size * sizeof(float) + 63) / 64 * 64));
        if (size && !data_) throw std::bad_alloc();
        std::fill(data_, data_ + size, value);
    }
    ~Buffer() { std::free(data_); }
    Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    float& operator[](long at) { return data_[at]; }
    const float& operator[](long at) const { return data_[at]; }
    float* data() { return data_; }
    const float* data() const { return data_; }
    void clear() { std::fill(data_, data_ + size_, 0.0f); }
};

inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

inline Vector widened(Halves h) {
#if defined(__AVX512F__)  // gcc makes several instructions of the conversion below
    const __m512i bits = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(h));
    return reinterpret_cast<Vector>(_mm512_slli_epi32(bits, 16));
#else
    return reinterpret_cast<Vector>(__builtin_convertvector(h, Bits) << 16);
#endif
}

// Rounds to the nearest bfloat16, to the even one of two. NaN stays NaN.
inline Halves rounded_to_halves(Vector v) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v)));
#else
    const Bits bits = reinterpret_cast<Bits>(v), rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return __builtin_convertvector((v != v ? bits | 0x400000 : rounded) >> 16, Halves);
#endif
}

// Loads and stores the first `count` values where a whole vector would exceed the row.
template <bool CUT> inline Vector get(const float* p, long count) {
    if (!CUT) return load(p);
    Vector v{};
    std::memcpy(&v, p, count * sizeof(float));
    return v;
}

template <bool CUT> inline Vector get(const BFloat* p, long count) {
    Halves h{};
    std::memcpy(&h, p, CUT ? count * sizeof(BFloat) : sizeof h);
    return widened(h);
}

template <bool CUT> inline void put(float* p, Vector v, long count) {
    if (CUT) std::memcpy(p, &v, count * sizeof(float));
    else store(p, v);
}

template <bool CUT> inline void put(BFloat* p, Vector v, long count) {
    const Halves h = rounded_to_halves(v);
    std::memcpy(p, &h, CUT ? count * sizeof(BFloat) : sizeof h);
}

// The values that a map holds after v is stored in it.
template <class Map> inline Vector as_stored(Vector v) {
    if constexpr (std::is_same<Map, BFloat>::value) return widened(rounded_to_halves(v));
    return v;
}

// Calls f(part, at, count) for each vector of n floats; the type of `part` tells at compile time whether the vector is
// shorter than LANES, so that the common case has no branch.
template <class F> inline void for_vectors(long n, F f) {
    long at = 0;
    for (; at + LANES <= n; at += LANES) f(std::false_type{}, at, LANES);
    if (at < n) f(std::true_type{}, at, n - at);
}

// Runs f(task) for all tasks in parallel. An exception must not leave an OpenMP region, so it is rethrown afterwards.
template <class F> void parallel(long tasks, long threads, F f) {
    std::atomic<bool> failed{false};
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long task = 0; task < tasks; ++task) {
        try {
            if (!failed) f(task);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    }
    if (failed) throw std::bad_alloc();
}

// Returns 0, or 1 if memory has run out.
template <class F> int guarded(F f) {
    try {
        f();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

#define CUT_SHORT decltype(part)::value

// exp(x) for x from -87 to 87, accurate to about one unit in the last place: exp(x) = 2^whole * exp(r), with
// r = x - whole * ln 2 in two steps for precision. NaN stays NaN.
inline Vector exponential(Vector x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    const Vector shifted = x * 1.44269504088896341f + magic;
    const Vector whole = shifted - magic;
    Vector r = x - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // polynomial of Cephes' expf (S. Moshier)
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Integers power = (reinterpret_cast<Integers>(shifted) << 23) + (127 << 23);
    return p * reinterpret_cast<Vector>(power);
}

// exp(x) as above, with a relative error of at most 8e-5: bfloat16 rounds to 2e-3.
inline Vector coarse_exponential(Vector x) {
    const float magic = 12582912.0f;
    const Vector power_of_two = x * 1.44269504088896341f, shifted = power_of_two + magic;
    const Vector f = power_of_two - (shifted - magic);  // from -1/2 to 1/2
    const Vector p = ((f * 0.0551713231f + 0.242611331f) * f + 0.693261089f) * f + 0.999928047f;  // minimax of 2^f
    const Integers power = (reinterpret_cast<Integers>(shifted) << 23) + (127 << 23);
    return p * reinterpret_cast<Vector>(power);
}

template <bool COARSE> inline Vector reciprocal(Vector x) {
#if defined(__AVX512F__)
    const Vector guess = reinterpret_cast<Vector>(_mm512_rcp14_ps(reinterpret_cast<__m512>(x)));
    return COARSE ? guess : guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

template <bool COARSE> inline Vector sigmoid(Vector z) {
    Vector x = z < -87.0f ? Vector{} + 87.0f : -z;
    x = x < -87.0f ? Vector{} - 87.0f : x;
    return reciprocal<COARSE>(1.0f + (COARSE ? coarse_exponential(x) : exponential(x)));
}

struct Pair {
    Vector value, slope;
};

// Value and slope of an activation, coarse for maps in bfloat16. The comparisons are false for NaN, so that NaN stays
// NaN.
template <int KIND, class Map> inline Pair activation(Vector z) {
    constexpr bool COARSE = std::is_same<Map, BFloat>::value;
    const Vector zero{}, one = zero + 1.0f, six = zero + 6.0f;
    if (KIND == RELU) return {z <= zero ? zero : z, z <= zero ? zero : one};
    if (KIND == RELU6)
        return {z <= zero ? zero : (z >= six ? six : z), z <= zero ? zero : (z >= six ? zero : one)};
    if (KIND == SILU) {
        const Vector s = sigmoid<COARSE>(z);
        return {z * s, s * (1.0f + z * (1.0f - s))};
    }
    if (KIND == SIGMOID) {
        const Vector s = sigmoid<COARSE>(z);
        return {s, s * (1.0f - s)};
    }
    if (KIND == HARD_SWISH) {
        const Vector gate = (z + 3.0f) / 6.0f;
        return {z <= -3.0f ? zero : (z >= 3.0f ? z : z * gate),
                z <= -3.0f ? zero : (z >= 3.0f ? one : z / 3.0f + 0.5f)};
    }
    if (KIND == HARD_SIGMOID) {
        const Vector inside = zero + 1.0f / 6.0f;
        return {z <= -3.0f ? zero : (z >= 3.0f ? one : (z + 3.0f) / 6.0f),
                z <= -3.0f ? zero : (z >= 3.0f ? zero : inside)};
    }
    return {z, one};
}

#define FOR_KIND(kind, call)                \
    switch (kind) {                         \
        case RELU: call(RELU); break;       \
        case RELU6: call(RELU6); break;     \
        case SILU: call(SILU); break;       \
        case SIGMOID: call(SIGMOID); break; \
        case HARD_SWISH: call(HARD_SWISH); break; \
        case HARD_SIGMOID: call(HARD_SIGMOID); break; \
        default: call(NONE);          \
    }

// Several copies of a row of channels, one after the other, padded with zeros to a whole vector.
Buffer tiled(const float* row, long channels, long copies) {
    Buffer wide(channels * copies + LANES);
    for (long k = 0; k < copies; ++k) std::copy(row, row + channels, wide.data() + k * channels);
    return wide;
}

inline long copies_of(long channels) { return std::max(1L, WIDE / channels); }

inline long parts_of(long units, long floats) {
    return std::max(1L, std::min({PARTS, units, (floats + PART_FLOATS - 1) / PART_FLOATS}));
}

// Column sums of two values over wide rows. Each wide row holds several copies of the channels; flush() adds the copies
// to the totals per channel, in double.
struct Columns {
    std::vector<float> first, second;
    double *first_total, *second_total;
    long channels, pending = 0;

    Columns(long channels, long width, double* first_total, double* second_total)
        : first(width), second(width), first_total(first_total), second_total(second_total), channels(channels) {}

    void next() {
        if (++pending == FLUSH) flush();
    }

    void flush() {
        for (size_t i = 0, c = 0; i < first.size(); ++i, c = c + 1 == size_t(channels) ? 0 : c + 1) {
            first_total[c] += first[i];
            second_total[c] += second[i];
        }
        std::fill(first.begin(), first.end(), 0.0f);
        std::fill(second.begin(), second.end(), 0.0f);
        pending = 0;
    }
};

// Combines the means and sums of squared deviations of several parts (Chan, Golub & LeVeque 1983). `sums` and `squares`
// are relative to the shifts, which avoids cancellation if the mean is large.
void combine(long parts, long channels, const double* counts, const double* sums, const double* squares,
             const float* shifts, float* mean, float* variance) {
    for (long c = 0; c < channels; ++c) {
        double n = 0, m = 0, deviation = 0;
        for (long p = 0; p < parts; ++p) {
            const double count = counts[p], sum = sums[p * channels + c];
            if (count == 0) continue;
            const double part_mean = shifts[p * channels + c] + sum / count;
            const double part_deviation = squares[p * channels + c] - sum * sum / count;
            const double delta = part_mean - m, total = n + count;
            m += delta * count / total;
            deviation += part_deviation + delta * delta * n * count / total;
            n = total;
        }
        mean[c] = float(m);
        variance[c] = float(deviation < 0 ? 0 : deviation / n);
    }
}

// The parameters of a Source, repeated for a wide row.
struct Wide {
    Buffer mean, scale, shift;

    template <bool CUT, class Map> Vector normalized(const Map* y, long at, long count) const {
        return (get<CUT>(y + at, count) - load(&mean[at])) * load(&scale[at]) + load(&shift[at]);
    }
};

Wide wide_of(const Source& source, long channels, long copies) {
    return {tiled(source.mean, channels, copies), tiled(source.scale, channels, copies),
            tiled(source.shift, channels, copies)};
}

template <int KIND, class Map>
void activate_range(const Map* y, Map* out, long floats, long width, const Wide& wide, const float* se) {
    for (long from = 0; from < floats; from += width) {
        for_vectors(std::min(width, floats - from), [&](auto part, long at, long count) {
            Vector x = activation<KIND, Map>(wide.normalized<CUT_SHORT>(y + from, at, count)).value;
            if (se) x = x * load(se + at);
            put<CUT_SHORT>(out + from + at, x, count);
        });
    }
}

// Sums of act(z), or of gradient * act(z), over the pixels of one image.
template <int KIND, bool WEIGHTED, class Map>
void pixel_sums(const Map* y, const Map* g, long floats, long channels, long width, const Wide& wide,
                double* total) {
    std::vector<double> unused(channels);
    Columns sums(channels, width, total, unused.data());
    float* sum = sums.first.data();
    for (long from = 0; from < floats; from += width) {
        for_vectors(std::min(width, floats - from), [&](auto part, long at, long count) {
            Vector x = activation<KIND, Map>(wide.normalized<CUT_SHORT>(y + from, at, count)).value;
            if (WEIGHTED) x = x * get<CUT_SHORT>(g + from + at, count);
            put<CUT_SHORT>(sum + at, get<CUT_SHORT>(sum + at, count) + x, count);
        });
        sums.next();
    }
    sums.flush();
}

// dz = (g * se + mean_gradient) * act'(z), with the sums of dz and of dz * (y - mean) for the gradients of the norm.
template <int KIND, class Map>
void activation_backward_range(const Map* g, const Map* y, Map* dz, long floats, long width, const Wide& wide,
                               const float* se, const float* mean_gradient, Columns& sums) {
    float *sum = sums.first.data(), *product = sums.second.data();
    for (long from = 0; from < floats; from += width) {
        for_vectors(std::min(width, floats - from), [&](auto part, long at, long count) {
            const Vector centered = get<CUT_SHORT>(y + from + at, count) - load(&wide.mean[at]);
            Vector d = get<CUT_SHORT>(g + from + at, count);
            if (se) d = d * load(se + at) + load(mean_gradient + at);
            const Pair pair = activation<KIND, Map>(centered * load(&wide.scale[at]) + load(&wide.shift[at]));
            d = d * pair.slope;
            put<CUT_SHORT>(dz + from + at, d, count);
            put<CUT_SHORT>(sum + at, get<CUT_SHORT>(sum + at, count) + d, count);
            put<CUT_SHORT>(product + at, get<CUT_SHORT>(product + at, count) + d * centered, count);
        });
        sums.next();
    }
    sums.flush();
}

void add_parts(long parts, long values, const std::vector<double>& partial, float* total) {
    for (long i = 0; i < values; ++i) {
        double sum = 0;
        for (long p = 0; p < parts; ++p) sum += partial[p * values + i];
        total[i] = float(sum);
    }
}

// Mean and biased variance of each column of [rows, channels]. Each part is shifted by its first row.
template <class Map>
void moments_all(const Map* y, long rows, long channels, float* mean, float* variance, long threads) {
    const long parts = parts_of(rows, rows * channels), copies = copies_of(channels), width = copies * channels;
    std::vector<double> sums(parts * channels), squares(parts * channels), counts(parts);
    std::vector<float> shifts(parts * channels);
    parallel(parts, threads, [&](long p) {
        const long from = rows * p / parts, to = rows * (p + 1) / parts;
        counts[p] = double(to - from);
        float* base = &shifts[p * channels];
        for_vectors(channels, [&](auto part, long at, long count) {
            put<CUT_SHORT>(base + at, get<CUT_SHORT>(y + from * channels + at, count), count);
        });
        const Buffer shift = tiled(base, channels, copies);
        Columns columns(channels, width, &sums[p * channels], &squares[p * channels]);
        float *sum = columns.first.data(), *square = columns.second.data();
        for (long start = from * channels; start < to * channels; start += width) {
            for_vectors(std::min(width, to * channels - start), [&](auto part, long at, long count) {
                const Vector d = get<CUT_SHORT>(y + start + at, count) - load(&shift[at]);
                put<CUT_SHORT>(sum + at, get<CUT_SHORT>(sum + at, count) + d, count);
                put<CUT_SHORT>(square + at, get<CUT_SHORT>(square + at, count) + d * d, count);
            });
            columns.next();
        }
        columns.flush();
    });
    combine(parts, channels, counts.data(), sums.data(), squares.data(), shifts.data(), mean, variance);
}

template <class Map>
void activate_all(const Source& source, const float* se, long images, long pixels, long channels, Map* out,
                  long threads) {
    const Map* y = static_cast<const Map*>(source.y);
    const long rows = images * pixels, copies = copies_of(channels), width = copies * channels;
    const Wide wide = wide_of(source, channels, copies);
    const long parts = se ? images : parts_of(rows, rows * channels);
    parallel(parts, threads, [&](long p) {
        const long from = rows * p / parts * channels, to = rows * (p + 1) / parts * channels;
        Buffer factors(0);
        if (se) factors = tiled(se + p * channels, channels, copies);
#define CALL(K) activate_range<K>(y + from, out + from, to - from, width, wide, se ? factors.data() : nullptr)
        FOR_KIND(source.kind, CALL)
#undef CALL
    });
}

template <class Map>
void pixel_sums_all(const Source& source, const Map* g, long images, long pixels, long channels, float* out,
                    long threads) {
    const Map* y = static_cast<const Map*>(source.y);
    const long copies = copies_of(channels), width = copies * channels;
    const Wide wide = wide_of(source, channels, copies);
    parallel(images, threads, [&](long n) {
        std::vector<double> total(channels);
        const long at = n * pixels * channels;
#define CALL(K)                                                                                       \
    g ? pixel_sums<K, true>(y + at, g + at, pixels * channels, channels, width, wide, total.data())   \
      : pixel_sums<K, false>(y + at, g, pixels * channels, channels, width, wide, total.data())
        FOR_KIND(source.kind, CALL)
#undef CALL
        for (long c = 0; c < channels; ++c) out[n * channels + c] = float(total[c]);
    });
}

template <class Map>
void activation_backward_all(const Source& source, const Map* g, const float* se, const float* mean_gradient,
                             long images, long pixels, long channels, Map* dz, float* sums, long threads) {
    const Map* y = static_cast<const Map*>(source.y);
    const long rows = images * pixels, copies = copies_of(channels), width = copies * channels;
    const Wide wide = wide_of(source, channels, copies);
    const long parts = se ? images : parts_of(rows, rows * channels);
    std::vector<double> partial(parts * 2 * channels);
    parallel(parts, threads, [&](long p) {
        const long from = rows * p / parts * channels, to = rows * (p + 1) / parts * channels;
        Buffer factors(0), terms(0);
        if (se) {
            factors = tiled(se + p * channels, channels, copies);
            terms = tiled(mean_gradient + p * channels, channels, copies);
        }
        Columns columns(channels, width, &partial[p * 2 * channels], &partial[(p * 2 + 1) * channels]);
        const float *by = se ? factors.data() : nullptr, *plus = se ? terms.data() : nullptr;
#define CALL(K) activation_backward_range<K>(g + from, y + from, dz + from, to - from, width, wide, by, plus, columns)
        FOR_KIND(source.kind, CALL)
#undef CALL
    });
    add_parts(parts, 2 * channels, partial, sums);
}

template <class Map>
void norm_backward_all(const Gradient& gradient, long rows, long channels, Map* dy, long threads) {
    const Map *y = static_cast<const Map*>(gradient.y), *dz = static_cast<const Map*>(gradient.dz);
    const long parts = parts_of(rows, rows * channels), copies = copies_of(channels), width = copies * channels;
    const Buffer mean = tiled(gradient.mean, channels, copies), factor = tiled(gradient.factor, channels, copies);
    const Buffer offset = tiled(gradient.offset, channels, copies), tilt = tiled(gradient.tilt, channels, copies);
    parallel(parts, threads, [&](long p) {
        const long to = rows * (p + 1) / parts * channels;
        for (long from = rows * p / parts * channels; from < to; from += width) {
            for_vectors(std::min(width, to - from), [&](auto part, long at, long count) {
                const Vector centered = get<CUT_SHORT>(y + from + at, count) - load(&mean[at]);
                const Vector shifted = get<CUT_SHORT>(dz + from + at, count) - load(&offset[at]);
                put<CUT_SHORT>(dy + from + at, load(&factor[at]) * (shifted - centered * load(&tilt[at])), count);
            });
        }
    });
}

// Computes a row of x for a block of channels, with `stride` floats per pixel, and with SLOPE also act'(z).
template <int KIND, bool SLOPE, class Map>
void fill_row(const Wide& wide, const Map* y, long pixels, long channels, long used, long stride, float* x,
              float* slopes) {
    for (long i = 0; i < pixels; ++i) {
        for_vectors(used, [&](auto part, long at, long count) {
            const Pair pair = activation<KIND, Map>(wide.normalized<CUT_SHORT>(y + i * channels, at, count));
            store(x + i * stride + at, pair.value);
            if (SLOPE) store(slopes + i * stride + at, pair.slope);
        });
    }
}

template <bool SLOPE, class Map>
void fill(const Source& s, const Wide& wide, const Map* y, long pixels, long channels, long used, long stride,
          float* x, float* slopes) {
    if (!s.mean) {
        for (long i = 0; i < pixels; ++i)
            for_vectors(used, [&](auto part, long at, long count) {
                put<CUT_SHORT>(x + i * stride + at, get<CUT_SHORT>(y + i * channels + at, count), count);
            });
        return;
    }
#define CALL(K) fill_row<K, SLOPE>(wide, y, pixels, channels, used, stride, x, slopes)
    FOR_KIND(s.kind, CALL)
#undef CALL
}

// The parameters of a Source for a block of channels.
Wide block_of(const Source& s, long first, long used) {
    if (!s.mean) return {Buffer(used + LANES), Buffer(used + LANES), Buffer(used + LANES)};
    return {tiled(s.mean + first, used, 1), tiled(s.scale + first, used, 1), tiled(s.shift + first, used, 1)};
}

inline long lanes_up(long channels) { return (channels + LANES - 1) / LANES * LANES; }

// Computes COUNT neighboring output pixels of one vector of channels; each weight is loaded once for all of them.
template <int COUNT, int K, int S>
inline void gather(const float* const* rows, const float* weight, long stride, float* out) {
    Vector sum[COUNT];
    for (int u = 0; u < COUNT; ++u) sum[u] = Vector{};
    for (int ky = 0; ky < K; ++ky) {
        const float* row = rows[ky];
        for (int kx = 0; kx < K; ++kx) {
            const Vector w = load(weight + (ky * K + kx) * stride);
            for (int u = 0; u < COUNT; ++u) sum[u] += load(row + (u * S + kx) * stride) * w;
        }
    }
    for (int u = 0; u < COUNT; ++u) store(out + u * stride, sum[u]);
}

// Depthwise convolution of one group of images and one block of channels.
//
// The K rows of x under the kernel are held in a ring buffer: row r of the padded image is in slot r % K, so that each
// row is normalized and activated once, although up to K output rows read it. With K = 3 and stride 1:
//
//     padded rows of x      0   1   2   3   4   5 ...
//     slot in the ring      0   1   2   0   1   2 ...
//
//     output row 0 reads   [0   1   2]                rows[ky] = ring[(oy * S + ky) % K]
//     output row 1 reads       [1   2   3]            row 3 has overwritten row 0, which is no longer needed
//     output row 2 reads           [2   3   4]
//
// `filled` counts the rows written so far. A row is [padded width, stride] floats: zeros left and right of the
// image, `stride` being the block's channels rounded up to whole vectors. Rows outside the image stay zero.
template <int K, int S, class Map>
void forward_task(const Depthwise& d, const Source& s, const float* weight, long from, long to, long first, long used,
                  Map* out, float* shift, double* sum, double* square) {
    const long stride = lanes_up(used), padded = (d.out_width - 1) * S + K;
    Buffer ring(K * padded * stride), taps(K * K * stride), line(d.out_width * stride);
    Buffer row_sum(stride), row_square(stride), base(stride);
    const Wide wide = block_of(s, first, used);
    for (int k = 0; k < K * K; ++k)
        std::memcpy(&taps[k * stride], weight + k * d.channels + first, used * sizeof(float));
    const long visible = std::min(d.width, padded - d.pad_left);
    bool has_shift = false;
    for (long n = from; n < to; ++n) {
        ring.clear();
        long filled = 0;  // rows of the padded image written to the ring
        for (long oy = 0; oy < d.out_height; ++oy) {
            for (; filled < oy * S + K; ++filled) {
                float* row = &ring[filled % K * padded * stride];
                const long iy = filled - d.pad_top;
                if (iy < 0 || iy >= d.height) {
                    std::memset(row, 0, padded * stride * sizeof(float));
                } else {
                    const Map* y = static_cast<const Map*>(s.y) + (n * d.height + iy) * d.width * d.channels + first;
                    fill<false>(s, wide, y, visible, d.channels, used, stride, row + d.pad_left * stride, nullptr);
                }
            }
            const float* rows[K];
            for (int ky = 0; ky < K; ++ky) rows[ky] = &ring[(oy * S + ky) % K * padded * stride];
            for (long c = 0; c < stride; c += LANES) {
                const float* at[K];
                long ox = 0;
                for (; ox + 4 <= d.out_width; ox += 4) {
                    for (int ky = 0; ky < K; ++ky) at[ky] = rows[ky] + ox * S * stride + c;
                    gather<4, K, S>(at, &taps[c], stride, &line[ox * stride + c]);
                }
                for (; ox < d.out_width; ++ox) {
                    for (int ky = 0; ky < K; ++ky) at[ky] = rows[ky] + ox * S * stride + c;
                    gather<1, K, S>(at, &taps[c], stride, &line[ox * stride + c]);
                }
            }
            if (!has_shift) {  // deviations are summed relative to the first output pixel
                std::copy(line.data(), line.data() + used, base.data());
                std::copy(line.data(), line.data() + used, shift);
                has_shift = true;
            }
            row_sum.clear();
            row_square.clear();
            for (long ox = 0; ox < d.out_width; ++ox) {
                Map* target = out + ((n * d.out_height + oy) * d.out_width + ox) * d.channels + first;
                for_vectors(used, [&](auto part, long at, long count) {
                    const Vector y = as_stored<Map>(load(&line[ox * stride + at])), centered = y - load(&base[at]);
                    put<CUT_SHORT>(target + at, y, count);
                    store(&row_sum[at], load(&row_sum[at]) + centered);
                    store(&row_square[at], load(&row_square[at]) + centered * centered);
                });
            }
            for (long c = 0; c < used; ++c) {
                sum[c] += row_sum[c];
                square[c] += row_square[c];
            }
        }
    }
}

// Adds the gradients of ROWS rows of the kernel from one row of x: each value of x is read once for all of them.
template <int ROWS, int K, int S>
inline void weight_gradients(const float* const* rows, const float* x, long pixels, long stride, float* const* sums) {
    constexpr int SETS = ROWS * K < 8 ? 2 : 1;  // so many chains of dependent additions keep both adders busy
    Vector set[SETS][ROWS][K] = {};
    const auto add = [&](Vector(&to)[ROWS][K], long ox) {
        Vector g[ROWS];
        for (int r = 0; r < ROWS; ++r) g[r] = load(rows[r] + ox * stride);
        for (int kx = 0; kx < K; ++kx) {
            const Vector value = load(x + (ox * S + kx) * stride);
            for (int r = 0; r < ROWS; ++r) to[r][kx] += g[r] * value;
        }
    };
    long ox = 0;
    for (; ox + SETS <= pixels; ox += SETS)
        for (int u = 0; u < SETS; ++u) add(set[u], ox + u);
    if (SETS > 1 && ox < pixels) add(set[0], ox);
    for (int r = 0; r < ROWS; ++r)
        for (int kx = 0; kx < K; ++kx) {
            Vector sum = set[0][r][kx];
            if (SETS > 1) sum += set[SETS - 1][r][kx];
            store(sums[r] + kx * stride, load(sums[r] + kx * stride) + sum);
        }
}

// The gradients of `count` pixels of one phase in an input row, which the kernel columns TAP, TAP + S, ... reach.
template <int K, int S, int TAP>
inline void input_gradients(const float* const* rows, long start, long count, const float* taps, long stride,
                            float* dx) {
    for (long j = 0; j < count; j += 4) {
        Vector sums[4] = {Vector{}, Vector{}, Vector{}, Vector{}};
        for (int ky = 0; ky < K; ++ky) {
            if (!rows[ky]) continue;
            const float* row = rows[ky] + start + j * stride;
            for (int kx = 0; TAP + kx * S < K; ++kx) {
                const Vector weight = load(taps + (ky * K + TAP + kx * S) * stride);
                for (int u = 0; u < 4; ++u) sums[u] += load(row + (u - kx) * stride) * weight;
            }
        }
        for (int u = 0; u < 4; ++u)
            if (j + u < count) store(dx + (j + u) * S * stride, sums[u]);
    }
}

// Gradients of one group of images and one block of channels: dz of the source, and the sums for weight and norm.
template <int K, int S, class Map>
void backward_task(const Depthwise& d, const Source& s, const Gradient& g, const float* weight, long from, long to,
                   long first, long used, Map* dz, double* weight_sum, double* sum, double* product) {
    const long stride = lanes_up(used), padded = std::max((d.out_width - 1) * S + K, d.width + d.pad_left);
    // The ring buffer holds rows of dy. Input row iy receives gradients from the output rows oy = (iy + pad - ky) / S
    // that are integers inside the map, at most K of them; row oy is in slot oy % K.
    //
    //     S = 1, K = 3, pad = 1:  input row 2  <-  dy rows 1 (ky = 2), 2 (ky = 1), 3 (ky = 0)
    //     S = 2, K = 3, pad = 0:  input row 2  <-  dy rows 0 (ky = 2), 1 (ky = 0); none for ky = 1
    //
    // Columns of zeros on both sides of dy, so that no tap of any input pixel reads outside of the buffer.
    const long left = K - 1, right = std::max(0L, (d.width - 1 + d.pad_left) / S - (d.out_width - 1)) + 4;
    const long line = left + d.out_width + right;
    Buffer ring(K * line * stride), x(padded * stride), slopes(d.width * stride, 1.0f), dx(d.width * stride);
    Buffer taps(K * K * stride), weight_image(K * K * stride), row_sum(stride), row_product(stride);
    const Wide wide = block_of(s, first, used);
    const Buffer mean = tiled(g.mean + first, used, 1), factor = tiled(g.factor + first, used, 1);
    const Buffer offset = tiled(g.offset + first, used, 1), tilt = tiled(g.tilt + first, used, 1);
    for (int k = 0; k < K * K; ++k)
        std::memcpy(&taps[k * stride], weight + k * d.channels + first, used * sizeof(float));
    const Map *source = static_cast<const Map*>(s.y), *dz_after = static_cast<const Map*>(g.dz);
    const Map* y_after = static_cast<const Map*>(g.y);
    for (long n = from; n < to; ++n) {
        long filled = 0;  // rows of dy written to the ring
        weight_image.clear();
        for (long iy = 0; iy < d.height; ++iy) {
            const long at = (n * d.height + iy) * d.width * d.channels;
            fill<true>(s, wide, source + at + first, d.width, d.channels, used, stride, &x[d.pad_left * stride],
                       slopes.data());
            for (; filled < d.out_height && filled * S <= iy + d.pad_top; ++filled) {
                const long from_row = (n * d.out_height + filled) * d.out_width * d.channels + first;
                for (long ox = 0; ox < d.out_width; ++ox) {
                    const long pixel = from_row + ox * d.channels;
                    const Map *dz_at = dz_after + pixel, *y_at = y_after + pixel;
                    float* target = &ring[(filled % K * line + left + ox) * stride];
                    for_vectors(used, [&](auto part, long c, long count) {
                        const Vector centered = get<CUT_SHORT>(y_at + c, count) - load(&mean[c]);
                        const Vector value = get<CUT_SHORT>(dz_at + c, count) - load(&offset[c]);
                        store(target + c, load(&factor[c]) * (value - centered * load(&tilt[c])));
                    });
                }
            }
            const float* gradient_rows[K];  // the row of dy that kernel row ky connects to this input row; null if none
            for (int ky = 0; ky < K; ++ky) {
                const long position = iy + d.pad_top - ky;
                gradient_rows[ky] = position >= 0 && position % S == 0 && position / S < d.out_height
                                        ? &ring[(position / S % K * line + left) * stride] : nullptr;
            }
            for (long c = 0; c < stride; c += LANES) {
                const float* rows[K];  // those of gradient_rows that are not null, and the sums of their weights
                float* sums[K];
                int last = 0;
                for (int ky = 0; ky < K; ++ky) {
                    if (!gradient_rows[ky]) continue;
                    rows[last] = gradient_rows[ky] + c;
                    sums[last++] = &weight_image[ky * K * stride + c];
                }
                int r = 0;
                for (; r + 3 <= last; r += 3)
                    weight_gradients<3, K, S>(rows + r, &x[c], d.out_width, stride, sums + r);
                if (r + 2 == last) weight_gradients<2, K, S>(rows + r, &x[c], d.out_width, stride, sums + r);
                if (r + 1 == last) weight_gradients<1, K, S>(rows + r, &x[c], d.out_width, stride, sums + r);
                // Input pixels of one phase (column modulo S) are reached by the same taps.
                for (int phase = 0; phase < S && phase < d.width; ++phase) {
                    const int tap = (phase + int(d.pad_left)) % S;  // first tap that reaches these pixels
                    const long start = (phase + d.pad_left - tap) / S * stride + c;
                    const long count = (d.width - phase + S - 1) / S;
                    float* out = &dx[phase * stride + c];
                    if (tap == 0) input_gradients<K, S, 0>(gradient_rows, start, count, &taps[c], stride, out);
                    else input_gradients<K, S, S - 1>(gradient_rows, start, count, &taps[c], stride, out);
                }
            }
            row_sum.clear();
            row_product.clear();
            for (long ix = 0; ix < d.width; ++ix) {
                const Map* y = source + at + ix * d.channels + first;
                Map* target = dz + at + ix * d.channels + first;
                for_vectors(used, [&](auto part, long c, long count) {
                    const Vector value = load(&dx[ix * stride + c]) * load(&slopes[ix * stride + c]);
                    put<CUT_SHORT>(target + c, value, count);
                    store(&row_sum[c], load(&row_sum[c]) + value);
                    const Vector centered = get<CUT_SHORT>(y + c, count) - load(&wide.mean[c]);
                    store(&row_product[c], load(&row_product[c]) + value * centered);
                });
            }
            for (long c = 0; c < used; ++c) {
                sum[c] += row_sum[c];
                product[c] += row_product[c];
            }
        }
        for (int k = 0; k < K * K; ++k)
            for (long c = 0; c < used; ++c) weight_sum[k * d.channels + c] += weight_image[k * stride + c];
    }
}

constexpr long GROUPS = 16;  // groups of images with separate sums

template <int K, int S, class Map>
void forward_all(const Depthwise& d, const Source& s, const float* weight, Map* out, float* mean, float* variance,
                 long threads) {
    const long groups = std::min(GROUPS, d.images), blocks = (d.channels + BLOCK - 1) / BLOCK;
    std::vector<double> sums(groups * d.channels), squares(groups * d.channels), counts(groups);
    std::vector<float> shifts(groups * d.channels);
    parallel(groups * blocks, threads, [&](long task) {
        const long group = task / blocks, first = task % blocks * BLOCK, at = group * d.channels + first;
        forward_task<K, S>(d, s, weight, d.images * group / groups, d.images * (group + 1) / groups, first,
                           std::min(BLOCK, d.channels - first), out, &shifts[at], &sums[at], &squares[at]);
    });
    for (long group = 0; group < groups; ++group)
        counts[group] =
            double(d.images * (group + 1) / groups - d.images * group / groups) * d.out_height * d.out_width;
    combine(groups, d.channels, counts.data(), sums.data(), squares.data(), shifts.data(), mean, variance);
}

template <int K, int S, class Map>
void backward_all(const Depthwise& d, const Source& s, const Gradient& g, const float* weight, Map* dz, float* dw,
                  float* sums, long threads) {
    const long groups = std::min(GROUPS, d.images), blocks = (d.channels + BLOCK - 1) / BLOCK;
    std::vector<double> weights(groups * K * K * d.channels), both(groups * 2 * d.channels);
    parallel(groups * blocks, threads, [&](long task) {
        const long group = task / blocks, first = task % blocks * BLOCK;
        backward_task<K, S>(d, s, g, weight, d.images * group / groups, d.images * (group + 1) / groups, first,
                            std::min(BLOCK, d.channels - first), dz, &weights[group * K * K * d.channels + first],
                            &both[group * 2 * d.channels + first], &both[(group * 2 + 1) * d.channels + first]);
    });
    add_parts(groups, K * K * d.channels, weights, dw);
    add_parts(groups, 2 * d.channels, both, sums);
}

}  // namespace

extern "C" {

// Whether the processor has instructions for products of bfloat16, which torch's matrix products use.
int triscale_has_bfloat16() {
#if defined(__AVX512BF16__) || defined(__AMX_BF16__)
    return 1;
#else
    return 0;
#endif
}

#define FOR_MAP(half, call) \
    if (half) call(BFloat); \
    else call(float)

// Mean and biased variance of each column of [rows, channels].
int triscale_moments(const void* y, long rows, long channels, float* mean, float* variance, long half, long threads) {
    return guarded([&] {
#define CALL(Map) moments_all(static_cast<const Map*>(y), rows, channels, mean, variance, threads)
        FOR_MAP(half, CALL);
#undef CALL
    });
}

// out = act(z) * se; se is [images, channels] or null.
int triscale_activate(const Source* source, const float* se, long images, long pixels, long channels, void* out,
                      long half, long threads) {
    return guarded([&] {
#define CALL(Map) activate_all(*source, se, images, pixels, channels, static_cast<Map*>(out), threads)
        FOR_MAP(half, CALL);
#undef CALL
    });
}

// Sums over pixels [images, channels] of act(z), or of g * act(z) if g is given.
int triscale_pixel_sums(const Source* source, const void* g, long images, long pixels, long channels, float* out,
                        long half, long threads) {
    return guarded([&] {
#define CALL(Map) pixel_sums_all(*source, static_cast<const Map*>(g), images, pixels, channels, out, threads)
        FOR_MAP(half, CALL);
#undef CALL
    });
}

// dz from the gradient g of act(z) * se, and the sums [2, channels] of dz and of dz * (y - mean). dz may be g.
int triscale_activation_backward(const Source* source, const void* g, const float* se, const float* mean_gradient,
                                 long images, long pixels, long channels, void* dz, float* sums, long half,
                                 long threads) {
    return guarded([&] {
#define CALL(Map)                                                                                                 \
    activation_backward_all(*source, static_cast<const Map*>(g), se, mean_gradient, images, pixels, channels,     \
                            static_cast<Map*>(dz), sums, threads)
        FOR_MAP(half, CALL);
#undef CALL
    });
}

// dy from dz, see Gradient; dy may be dz.
int triscale_norm_backward(const Gradient* gradient, long rows, long channels, void* dy, long half, long threads) {
    return guarded([&] {
#define CALL(Map) norm_backward_all(*gradient, rows, channels, static_cast<Map*>(dy), threads)
        FOR_MAP(half, CALL);
#undef CALL
    });
}

#define FOR_SHAPE(d, call, Map)                                \
    if ((d)->kernel == 3 && (d)->stride == 1) call(3, 1, Map); \
    else if ((d)->kernel == 3 && (d)->stride == 2) call(3, 2, Map); \
    else if ((d)->kernel == 5 && (d)->stride == 1) call(5, 1, Map); \
    else if ((d)->kernel == 5 && (d)->stride == 2) call(5, 2, Map); \
    else if ((d)->kernel == 7 && (d)->stride == 1) call(7, 1, Map); \
    else if ((d)->kernel == 7 && (d)->stride == 2) call(7, 2, Map);

// out = depthwise convolution of x, with its mean and biased variance; weight is [kernel * kernel, channels].
int triscale_depthwise(const Depthwise* d, const Source* s, const float* weight, void* out, float* mean,
                       float* variance, long half, long threads) {
    return guarded([&] {
#define CALL(K, S, Map) forward_all<K, S>(*d, *s, weight, static_cast<Map*>(out), mean, variance, threads)
        if (half) {
            FOR_SHAPE(d, CALL, BFloat)
        } else {
            FOR_SHAPE(d, CALL, float)
        }
#undef CALL
    });
}

// dz of the source, dw [kernel * kernel, channels], and the sums [2, channels] of dz and of dz * (y - mean).
int triscale_depthwise_backward(const Depthwise* d, const Source* s, const Gradient* g, const float* weight, void* dz,
                                float* dw, float* sums, long half, long threads) {
    return guarded([&] {
#define CALL(K, S, Map) backward_all<K, S>(*d, *s, *g, weight, static_cast<Map*>(dz), dw, sums, threads)
        if (half) {
            FOR_SHAPE(d, CALL, BFloat)
        } else {
            FOR_SHAPE(d, CALL, float)
        }
#undef CALL
    });
}

}  // extern "C"
