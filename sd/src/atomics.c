/* The atomic operations that the compiler leaves to the system on ARMv5, for Linux from 2.6.12 on.
 *
 * An ARM926 has no instruction that reads, changes and writes a word as one. LLVM therefore calls functions by the names
 * of GCC's legacy builtins, __sync_fetch_and_add_4 and so on, and expects somebody to have them; the libraries that come
 * with zig do not. On Linux the kernel can do it: it keeps a few bytes of code at fixed addresses in every process, and
 * where a thread is interrupted in the middle of them, the kernel lets it begin again (Documentation/arm/
 * kernel_user_helpers.rst). The 32-bit compare-and-exchange of these is all that is needed:
 *
 *   4 bytes     that helper, until it succeeds;
 *   1, 2 bytes  the same on the word around them: its other bytes are put back as they were seen, and if one of them
 *               has changed meanwhile, the helper refuses and everything is done again;
 *   8 bytes     a spin lock, since the 64-bit helper came with Linux 3.1 and the camera has 3.0.8. One lock for all: our
 *               programs use this size seldom or never. It is neither for signal handlers nor for a child between fork
 *               and exec.
 *
 * Plain atomic loads and stores, of any size, become calls of __atomic_load(bytes, ...) and its like. zig's own versions
 * of these copy byte by byte under a lock that the operations above know nothing of: a value that one thread adds to and
 * another reads would be read torn, and a store could be lost. So these are here as well. Of 1, 2 and 4 bytes they are
 * one instruction each, which also spares Python's interpreter a lock at every turn of a loop.
 *
 * clang does not let a program define its builtins, so each function has a name of its own, and the builtin's as its
 * symbol. test_atomics.c tests every one of them.
 */
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__arm__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "made for little-endian ARM"
#endif

/* 0 if *at was `old` and is `new` now. Like all of them a full barrier. */
typedef int kuser_cmpxchg(uint32_t old, uint32_t new, volatile uint32_t *at);
typedef void kuser_memory_barrier(void);
#define KUSER_CMPXCHG ((kuser_cmpxchg *)0xffff0fc0)
#define KUSER_MEMORY_BARRIER ((kuser_memory_barrier *)0xffff0fa0)

#define SYMBOL(name) __asm__(#name)

static inline bool exchange_word(volatile uint32_t *at, uint32_t old, uint32_t new)
{
    return KUSER_CMPXCHG(old, new, at) == 0;
}

void synchronize(void) SYMBOL(__sync_synchronize);
void synchronize(void)
{
    KUSER_MEMORY_BARRIER();
}

/* 1, 2 and 4 bytes: a value is a lane of its word, `shift` bits up. A value never lies across two words: what is atomic
 * is aligned. */

static inline volatile uint32_t *word_of(volatile void *at)
{
    return (volatile uint32_t *)((uintptr_t)at & ~(uintptr_t)3);
}

static inline unsigned shift_of(volatile void *at)
{
    return ((uintptr_t)at & 3) * 8;
}

/* The word `seen`, with `value` in the lane of a `T`. */
#define WITH(T, seen, shift, value) (((seen) & ~((uint32_t)(T)-1 << (shift))) | ((uint32_t)(T)(value) << (shift)))

/* fetch_and_NAME: *at becomes `expression` of `old` and `operand`; gives what it was. `S` is `T` with a sign. */
#define FETCH_AND(T, S, bytes, name, expression)                                                       \
    T name##_##bytes(volatile T *at, T operand) SYMBOL(__sync_fetch_and_##name##_##bytes);             \
    T name##_##bytes(volatile T *at, T operand)                                                        \
    {                                                                                                  \
        volatile uint32_t *word = word_of(at);                                                         \
        unsigned shift = shift_of(at);                                                                 \
        for (;;) {                                                                                     \
            uint32_t seen = *word;                                                                     \
            T old = (T)(seen >> shift);                                                                \
            if (exchange_word(word, seen, WITH(T, seen, shift, expression)))                           \
                return old;                                                                            \
        }                                                                                              \
    }

/* val_compare_and_swap: gives what *at was, which is `expected` where `desired` has been put there. */
#define COMPARE_AND_SWAP(T, bytes)                                                                     \
    T swap_##bytes(volatile T *at, T expected, T desired) SYMBOL(__sync_val_compare_and_swap_##bytes); \
    T swap_##bytes(volatile T *at, T expected, T desired)                                              \
    {                                                                                                  \
        volatile uint32_t *word = word_of(at);                                                         \
        unsigned shift = shift_of(at);                                                                 \
        for (;;) {                                                                                     \
            uint32_t seen = *word;                                                                     \
            T old = (T)(seen >> shift);                                                                \
            if (old != expected || exchange_word(word, seen, WITH(T, seen, shift, desired)))           \
                return old;                                                                            \
        }                                                                                              \
    }

/* lock_test_and_set is an exchange, whatever its name says. */
#define TEST_AND_SET(T, bytes)                                                                         \
    T set_##bytes(volatile T *at, T value) SYMBOL(__sync_lock_test_and_set_##bytes);                   \
    T set_##bytes(volatile T *at, T value)                                                             \
    {                                                                                                  \
        volatile uint32_t *word = word_of(at);                                                         \
        unsigned shift = shift_of(at);                                                                 \
        for (;;) {                                                                                     \
            uint32_t seen = *word;                                                                     \
            if (exchange_word(word, seen, WITH(T, seen, shift, value)))                                \
                return (T)(seen >> shift);                                                             \
        }                                                                                              \
    }

#define ALL_OPERATIONS(DEFINE, T, S, bytes)                                                            \
    DEFINE(T, S, bytes, add, old + operand)                                                            \
    DEFINE(T, S, bytes, sub, old - operand)                                                            \
    DEFINE(T, S, bytes, and, old & operand)                                                            \
    DEFINE(T, S, bytes, or, old | operand)                                                             \
    DEFINE(T, S, bytes, xor, old ^ operand)                                                            \
    DEFINE(T, S, bytes, nand, ~(old & operand))                                                        \
    DEFINE(T, S, bytes, max, (S)old > (S)operand ? old : operand)                                      \
    DEFINE(T, S, bytes, min, (S)old < (S)operand ? old : operand)                                      \
    DEFINE(T, S, bytes, umax, old > operand ? old : operand)                                           \
    DEFINE(T, S, bytes, umin, old < operand ? old : operand)

#define LANES(T, S, bytes)                                                                             \
    ALL_OPERATIONS(FETCH_AND, T, S, bytes)                                                             \
    COMPARE_AND_SWAP(T, bytes)                                                                         \
    TEST_AND_SET(T, bytes)

LANES(uint8_t, int8_t, 1)
LANES(uint16_t, int16_t, 2)
LANES(uint32_t, int32_t, 4)

/* 8 bytes, under the lock. */

static volatile uint32_t locked;

static void lock(void)
{
    while (!exchange_word(&locked, 0, 1))
        sched_yield();
}

static void unlock(void)
{
    KUSER_MEMORY_BARRIER();
    locked = 0;
}

uint64_t swap_8(volatile uint64_t *at, uint64_t expected, uint64_t desired) SYMBOL(__sync_val_compare_and_swap_8);
uint64_t swap_8(volatile uint64_t *at, uint64_t expected, uint64_t desired)
{
    lock();
    uint64_t old = *at;
    if (old == expected)
        *at = desired;
    unlock();
    return old;
}

uint64_t set_8(volatile uint64_t *at, uint64_t value) SYMBOL(__sync_lock_test_and_set_8);
uint64_t set_8(volatile uint64_t *at, uint64_t value)
{
    lock();
    uint64_t old = *at;
    *at = value;
    unlock();
    return old;
}

#define FETCH_AND_8(T, S, bytes, name, expression)                                                     \
    T name##_##bytes(volatile T *at, T operand) SYMBOL(__sync_fetch_and_##name##_##bytes);             \
    T name##_##bytes(volatile T *at, T operand)                                                        \
    {                                                                                                  \
        lock();                                                                                        \
        T old = *at;                                                                                   \
        *at = (expression);                                                                            \
        unlock();                                                                                      \
        return old;                                                                                    \
    }

ALL_OPERATIONS(FETCH_AND_8, uint64_t, int64_t, 8)

/* Loads, stores, exchanges and compare-and-exchange of C11: `bytes` at `at`, values in memory. */

enum { RELAXED = __ATOMIC_RELAXED };

static inline void barrier_unless_relaxed(int order)
{
    if (order != RELAXED)
        KUSER_MEMORY_BARRIER();
}

void atomic_load(size_t bytes, const volatile void *at, void *into, int order) SYMBOL(__atomic_load);
void atomic_load(size_t bytes, const volatile void *at, void *into, int order)
{
    switch (bytes) {
    case 1:
        *(uint8_t *)into = *(const volatile uint8_t *)at;
        break;
    case 2:
        *(uint16_t *)into = *(const volatile uint16_t *)at;
        break;
    case 4:
        *(uint32_t *)into = *(const volatile uint32_t *)at;
        break;
    default:
        lock();
        memcpy(into, (const void *)at, bytes);
        unlock();
        return;
    }
    barrier_unless_relaxed(order);
}

void atomic_store(size_t bytes, volatile void *at, const void *from, int order) SYMBOL(__atomic_store);
void atomic_store(size_t bytes, volatile void *at, const void *from, int order)
{
    if (bytes > 4 || bytes == 3) {
        lock();
        memcpy((void *)at, from, bytes);
        unlock();
        return;
    }
    /* Before the value can be seen, and after it, as the strictest order wants it. */
    barrier_unless_relaxed(order);
    switch (bytes) {
    case 1:
        *(volatile uint8_t *)at = *(const uint8_t *)from;
        break;
    case 2:
        *(volatile uint16_t *)at = *(const uint16_t *)from;
        break;
    case 4:
        *(volatile uint32_t *)at = *(const uint32_t *)from;
        break;
    }
    barrier_unless_relaxed(order);
}

void atomic_exchange(size_t bytes, volatile void *at, const void *from, void *into, int order)
    SYMBOL(__atomic_exchange);
void atomic_exchange(size_t bytes, volatile void *at, const void *from, void *into, int order)
{
    (void)order;
    switch (bytes) {
    case 1:
        *(uint8_t *)into = set_1(at, *(const uint8_t *)from);
        break;
    case 2:
        *(uint16_t *)into = set_2(at, *(const uint16_t *)from);
        break;
    case 4:
        *(uint32_t *)into = set_4(at, *(const uint32_t *)from);
        break;
    default:
        lock();
        memcpy(into, (const void *)at, bytes);
        memcpy((void *)at, from, bytes);
        unlock();
    }
}

/* Puts what it found into *expected where that was something else. */
#define COMPARE_EXCHANGE(T, bytes)                                                                     \
    static bool compare_exchange_##bytes(volatile T *at, T *expected, T desired)                       \
    {                                                                                                  \
        T wanted = *expected;                                                                          \
        *expected = swap_##bytes(at, wanted, desired);                                                 \
        return *expected == wanted;                                                                    \
    }

COMPARE_EXCHANGE(uint8_t, 1)
COMPARE_EXCHANGE(uint16_t, 2)
COMPARE_EXCHANGE(uint32_t, 4)

bool atomic_compare_exchange(size_t bytes, volatile void *at, void *expected, const void *desired, int success,
                             int failure) SYMBOL(__atomic_compare_exchange);
bool atomic_compare_exchange(size_t bytes, volatile void *at, void *expected, const void *desired, int success,
                             int failure)
{
    (void)success;
    (void)failure;
    switch (bytes) {
    case 1:
        return compare_exchange_1(at, expected, *(const uint8_t *)desired);
    case 2:
        return compare_exchange_2(at, expected, *(const uint16_t *)desired);
    case 4:
        return compare_exchange_4(at, expected, *(const uint32_t *)desired);
    }
    lock();
    bool same = memcmp((const void *)at, expected, bytes) == 0;
    memcpy(same ? (void *)at : expected, same ? desired : (const void *)at, bytes);
    unlock();
    return same;
}

/* OpenSSL asks; where the answer is no it takes a mutex instead, and does without the operations above. */
bool is_lock_free(size_t bytes, const volatile void *at) SYMBOL(__atomic_is_lock_free);
bool is_lock_free(size_t bytes, const volatile void *at)
{
    (void)at;
    return bytes == 1 || bytes == 2 || bytes == 4;
}
