/* Scattered rows of a data set that is stored column by column.
 *
 * The rows of a batch are far apart: every value lies in a cache line, often a page, of its own, and copying is waiting
 * for memory. So all values of a row are asked for AHEAD rows before they are used, and a batch is one call, not one
 * per column: threads that read side by side do not wait for each other.
 */
#include <stdint.h>

#define AHEAD 32
#define ASK_FOR(address) __builtin_prefetch((address), 0, 1) /* to read it, into the second cache */

/* For each of count row numbers: m ids of int8, int16 or int32, each step bytes after that of the row before; N numbers
 * from float16 [., N]; a label. */
void take(const char *const *column, const int64_t *bytes, const int64_t *step, int64_t m, const _Float16 *number, int64_t n,
          const uint8_t *label, const int64_t *row, int64_t count, int32_t *ids, float *numbers, float *labels)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            const int64_t later = row[i + AHEAD];
            for (int64_t j = 0; j < m; j++)
                ASK_FOR(column[j] + later * step[j]);
            ASK_FOR(number + later * n);
            ASK_FOR((const char *)(number + later * n + n) - 1); /* numbers may lie in two cache lines */
            ASK_FOR(label + later);
        }
        for (int64_t j = 0; j < m; j++) {
            const char *from = column[j] + row[i] * step[j];
            ids[i * m + j] = bytes[j] == 1   ? *(const int8_t *)from
                             : bytes[j] == 2 ? *(const int16_t *)from
                                             : *(const int32_t *)from;
        }
        for (int64_t k = 0; k < n; k++)
            numbers[i * n + k] = number[row[i] * n + k];
        labels[i] = label[row[i]];
    }
}
