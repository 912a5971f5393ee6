/* How the threads of this process treat numbers too small to be normal: their arithmetic takes many times as long.
 *
 * Each thread has a switch of its own, so it is thrown within a parallel region: the threads that run it run the next ones.
 */
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static void as_zero_here(int on)
{
#if defined(__SSE__)
    const unsigned both = 0x8040; /* flush results to zero, and take inputs for zero */
    _mm_setcsr(on ? _mm_getcsr() | both : _mm_getcsr() & ~both);
#elif defined(__aarch64__)
    unsigned long control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    control = on ? control | 1ul << 24 : control & ~(1ul << 24);
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
#endif
}

void as_zero(int on, int threads)
{
#pragma omp parallel num_threads(threads)
    as_zero_here(on);
}
