/* The parts of a DLRM training step that are not plain matrix products, for the CPU.
 *
 * kernels.py compiles this file for one model and one machine: DIM (D, the length of an embedding), VECTORS (F, how
 * many vectors interact) and SELF (1: each also with itself) are constants, so that the compiler knows the length of every
 * inner loop and keeps sums in registers.
 *
 * Results are the same for any number of threads: a thread owns samples, or rows of a table, and whatever is summed for
 * one of them is summed in the order of the samples.
 */
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16 /* floats in the widest vector register in use; compilers split it for narrower ones */
#define TILE 8   /* rows of a product whose sums are kept in registers together */
#define PADDED(n, to) (((n) + (to)-1) / (to) * (to))
#define PAIRS (VECTORS * (VECTORS - 1) / 2 + SELF * VECTORS)

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(64)));

/* Vectors of one sample, padded by zeros, and places for what is made of them. */
typedef struct {
    float vector[PADDED(VECTORS, TILE)][PADDED(DIM, LANES)];
    float column[DIM][PADDED(VECTORS, LANES)]; /* the same, transposed */
    float product[PADDED(VECTORS, TILE)][PADDED(VECTORS, LANES)];
    float sum[PADDED(VECTORS, TILE)][PADDED(DIM, LANES)];
    float pairs[PAIRS + PADDED(VECTORS, LANES)];
} __attribute__((aligned(64))) sample;

/* A sample for each thread, or NULL. It is too large for a stack: 2,000 vectors have 2,000,000 products. */
static inline sample *samples(int threads)
{
    return aligned_alloc(64, threads * sizeof(sample));
}

/* c [rows, width] = a [rows, inner] b [inner, width]: rows a multiple of TILE, width one of LANES.
 *
 * With lower, what lies above the diagonal is left out as far as whole tiles go. */
static inline void multiply(const float *a, int stride, const float *b, float *c, int rows, int inner, int width,
                            int lower)
{
    for (int i = 0; i < rows; i += TILE)
        for (int w = 0; w < width && !(lower && w >= i + TILE); w += LANES) {
            lanes sum[TILE] = {};
            for (int k = 0; k < inner; k++) {
                const lanes from = *(const lanes *)(b + k * width + w);
                for (int t = 0; t < TILE; t++)
                    sum[t] += a[(i + t) * stride + k] * from;
            }
            for (int t = 0; t < TILE; t++)
                *(lanes *)(c + (i + t) * width + w) = sum[t];
        }
}

/* Copies a sample's vectors: first [0 or 1, D] and rows [the others, D]. */
static inline void load(sample *s, const float *first, const float *rows, int64_t has_first)
{
    for (int i = 0; i < VECTORS; i++)
        memcpy(s->vector[i], i < has_first ? first : rows + (i - has_first) * DIM, DIM * sizeof(float));
}

/* The dot product of every pair of vectors, each pair once.
 *
 * first [B, n, D] (n = 0 or 1: the bottom MLP's vector) and rows [B, F - n, D] are the vectors; out [B, width] receives
 * the first vector, the products (row by row of the lower triangle) and zeros up to width. The result is the bytes of
 * memory that were not to be had: 0 if all went well. */
int64_t interact(const float *first, const float *rows, float *out, int64_t batch, int64_t n, int64_t width,
                 int threads)
{
    sample *all = samples(threads);
    if (!all)
        return threads * sizeof(sample);
#pragma omp parallel num_threads(threads)
    {
        sample *restrict s = memset(all + omp_get_thread_num(), 0, sizeof(sample));
#pragma omp for schedule(static)
        for (int64_t b = 0; b < batch; b++) {
            load(s, first + b * n * DIM, rows + b * (VECTORS - n) * DIM, n);
            for (int i = 0; i < VECTORS; i++)
                for (int d = 0; d < DIM; d++)
                    s->column[d][i] = s->vector[i][d];
            multiply(s->vector[0], PADDED(DIM, LANES), s->column[0], s->product[0], PADDED(VECTORS, TILE), DIM,
                     PADDED(VECTORS, LANES), 1);
            /* Rows of one constant length are quick to copy: each overwrites what the one before has too much. */
            for (int i = 0, at = 0; i < VECTORS; at += i++ + SELF)
                memcpy(s->pairs + at, s->product[i], sizeof(s->product[i]));
            float *to = out + b * width;
            memcpy(to, s->vector[0], n * DIM * sizeof(float));
            memcpy(to + n * DIM, s->pairs, PAIRS * sizeof(float));
            memset(to + n * DIM + PAIRS, 0, (width - n * DIM - PAIRS) * sizeof(float));
        }
    }
    free(all);
    return 0;
}

/* The gradient of interact, and its result: from grad [B, width] to grad_first [B, n, D] and grad_rows [B, F - n, D].
 *
 * The product of two vectors adds its gradient times the one to the gradient of the other, and vice versa. */
int64_t interact_backward(const float *first, const float *rows, const float *grad, float *grad_first,
                          float *grad_rows, int64_t batch, int64_t n, int64_t width, int threads)
{
    sample *all = samples(threads);
    if (!all)
        return threads * sizeof(sample);
#pragma omp parallel num_threads(threads)
    {
        sample *restrict s = memset(all + omp_get_thread_num(), 0, sizeof(sample));
#pragma omp for schedule(static)
        for (int64_t b = 0; b < batch; b++) {
            load(s, first + b * n * DIM, rows + b * (VECTORS - n) * DIM, n);
            const float *from = grad + b * width + n * DIM;
            for (int i = 0; i < VECTORS; i++) {
                for (int j = 0; j < i; j++)
                    s->product[i][j] = s->product[j][i] = *from++;
                s->product[i][i] = SELF ? 2 * *from++ : 0;
            }
            multiply(s->product[0], PADDED(VECTORS, LANES), s->vector[0], s->sum[0], PADDED(VECTORS, TILE), VECTORS,
                     PADDED(DIM, LANES), 0);
            for (int64_t d = 0; d < n * DIM; d++)
                grad_first[b * DIM + d] = s->sum[0][d] + grad[b * width + d];
            for (int64_t i = n; i < VECTORS; i++)
                memcpy(grad_rows + (b * (VECTORS - n) + i - n) * DIM, s->sum[i], DIM * sizeof(float));
        }
    }
    free(all);
    return 0;
}

/* Which of so many threads owns a row: scattered, so that neighbours and small tables are shared out evenly. */
static inline int owner(int64_t row, int threads)
{
    return (int)(((uint64_t)row * 0x9E3779B97F4A7C15u >> 32) * threads >> 32);
}

/* weight[row[k]] += scale * grad[k] for k = 0, 1, ... in this order; row int64 [K], grad [K, D]. */
void add_rows(float *weight, const int64_t *row, const float *grad, int64_t count, float scale, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int me = 0; me < threads; me++)
        for (int64_t k = 0; k < count; k++) {
            if (owner(row[k], threads) != me)
                continue;
            float *to = weight + row[k] * DIM;
            const float *from = grad + k * DIM;
#pragma omp simd
            for (int d = 0; d < DIM; d++)
                to[d] += scale * from[d];
        }
}

/* Sums the gradients of equal rows: row int64 [K], grad [K, D].
 *
 * distinct int64 [K] receives each row once, in the order of first appearance, and sum [K, D] its gradient; the result
 * is how many there are. slot int32 [rows of the tables] must hold -1 everywhere, and does again afterwards; place int32
 * [K] is room to work in: the slot of each k, as its complement where the row appears for the first time. */
int64_t sum_rows(const int64_t *row, const float *grad, int64_t count, int64_t *distinct, float *sum, int32_t *slot,
                 int32_t *place, int threads)
{
    int32_t used = 0;
    for (int64_t k = 0; k < count; k++) {
        int32_t *at = slot + row[k];
        if (*at < 0) {
            *at = used;
            distinct[used] = row[k];
            place[k] = ~used++;
        } else
            place[k] = *at;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int me = 0; me < threads; me++)
        for (int64_t k = 0; k < count; k++) {
            const int is_first = place[k] < 0, s = is_first ? ~place[k] : place[k];
            if (s % threads != me)
                continue;
            float *to = sum + (int64_t)s * DIM;
            const float *from = grad + k * DIM;
            if (is_first)
                memcpy(to, from, DIM * sizeof(float));
            else
#pragma omp simd
                for (int d = 0; d < DIM; d++)
                    to[d] += from[d];
        }
    for (int32_t s = 0; s < used; s++)
        slot[distinct[s]] = -1;
    return used;
}
