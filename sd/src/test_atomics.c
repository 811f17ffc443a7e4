/* Tests atomics.c: every function by its symbol, alone and under threads; then the compiler's own C11 atomics, which have
 * to end up there. Prints what failed, or one line that all is well; the exit status says the same.
 *
 * Run under qemu-arm-static, or on the machine itself: test_atomics [ROUNDS of each thread]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4 };

static unsigned long rounds = 20000;
static unsigned failures;

static void expect(bool holds, const char *what, unsigned bytes, int line)
{
    if (!holds) {
        failures++;
        printf("line %d: %s, %u bytes\n", line, what, bytes);
    }
}
#define EXPECT(bytes, condition) expect(condition, #condition, bytes, __LINE__)

/* What is under test, by the symbols that the compiler calls: a call of the builtin could become something else. */

#define DECLARE_OPERATION(T, bytes, name) T name##_##bytes(volatile T *, T) __asm__("__sync_fetch_and_" #name "_" #bytes);

#define DECLARE(T, bytes)                                                                              \
    DECLARE_OPERATION(T, bytes, add)                                                                   \
    DECLARE_OPERATION(T, bytes, sub)                                                                   \
    DECLARE_OPERATION(T, bytes, and)                                                                   \
    DECLARE_OPERATION(T, bytes, or)                                                                    \
    DECLARE_OPERATION(T, bytes, xor)                                                                   \
    DECLARE_OPERATION(T, bytes, nand)                                                                  \
    DECLARE_OPERATION(T, bytes, max)                                                                   \
    DECLARE_OPERATION(T, bytes, min)                                                                   \
    DECLARE_OPERATION(T, bytes, umax)                                                                  \
    DECLARE_OPERATION(T, bytes, umin)                                                                  \
    T swap_##bytes(volatile T *, T, T) __asm__("__sync_val_compare_and_swap_" #bytes);                 \
    T set_##bytes(volatile T *, T) __asm__("__sync_lock_test_and_set_" #bytes);

DECLARE(uint8_t, 1)
DECLARE(uint16_t, 2)
DECLARE(uint32_t, 4)
DECLARE(uint64_t, 8)
void synchronize(void) __asm__("__sync_synchronize");
void load_any(size_t, const volatile void *, void *, int) __asm__("__atomic_load");
void store_any(size_t, volatile void *, const void *, int) __asm__("__atomic_store");
void exchange_any(size_t, volatile void *, const void *, void *, int) __asm__("__atomic_exchange");
bool compare_any(size_t, volatile void *, void *, const void *, int, int) __asm__("__atomic_compare_exchange");
bool is_lock_free(size_t, const volatile void *) __asm__("__atomic_is_lock_free");

/* One thread: every operation in every lane, its result, and that the neighbours are left alone. */

#define NEIGHBOURS_LEFT_ALONE(bytes)                                                                   \
    for (unsigned other = 0; other < sizeof lanes / sizeof lanes[0]; other++)                          \
    EXPECT(bytes, other == lane || lanes[other] == untouched)

#define CHECK_OPERATION(T, bytes, name, before, operand, after)                                        \
    do {                                                                                               \
        lanes[lane] = (T)(before);                                                                     \
        EXPECT(bytes, name##_##bytes(&lanes[lane], (T)(operand)) == (T)(before));                      \
        EXPECT(bytes, lanes[lane] == (T)(after));                                                      \
        NEIGHBOURS_LEFT_ALONE(bytes);                                                                  \
    } while (0)

#define DEFINE_CHECKS(T, bytes)                                                                        \
    static void check_##bytes(void)                                                                    \
    {                                                                                                  \
        const T all = (T)-1, top = (T)1 << (8 * bytes - 1), untouched = (T)0xa5a5a5a5a5a5a5a5;         \
        T lanes[16 / bytes] __attribute__((aligned(8)));                                               \
        for (unsigned lane = 0; lane < 16 / bytes; lane++) {                                           \
            for (unsigned other = 0; other < 16 / bytes; other++)                                      \
                lanes[other] = untouched;                                                              \
            CHECK_OPERATION(T, bytes, add, 40, 2, 42);                                                 \
            CHECK_OPERATION(T, bytes, add, all, 1, 0); /* wraps, and carries into no neighbour */      \
            CHECK_OPERATION(T, bytes, add, top, top, 0);                                               \
            CHECK_OPERATION(T, bytes, sub, 42, 2, 40);                                                 \
            CHECK_OPERATION(T, bytes, sub, 0, 1, all);                                                 \
            CHECK_OPERATION(T, bytes, and, all, top | 1, top | 1);                                     \
            CHECK_OPERATION(T, bytes, or, top, 1, top | 1);                                            \
            CHECK_OPERATION(T, bytes, xor, all, 1, all - 1);                                           \
            CHECK_OPERATION(T, bytes, nand, all, top, (T)~top);                                        \
            CHECK_OPERATION(T, bytes, nand, 0, all, all);                                              \
            CHECK_OPERATION(T, bytes, max, all, 1, 1); /* with a sign, all ones are -1 */              \
            CHECK_OPERATION(T, bytes, max, 1, top, 1);                                                 \
            CHECK_OPERATION(T, bytes, min, 1, all, all);                                               \
            CHECK_OPERATION(T, bytes, min, top, 1, top);                                               \
            CHECK_OPERATION(T, bytes, umax, 1, all, all);                                              \
            CHECK_OPERATION(T, bytes, umax, top, 1, top);                                              \
            CHECK_OPERATION(T, bytes, umin, all, 1, 1);                                                \
            CHECK_OPERATION(T, bytes, umin, 1, top, 1);                                                \
            CHECK_OPERATION(T, bytes, set, top | 3, 5, 5);                                             \
                                                                                                       \
            lanes[lane] = top | 7;                                                                     \
            EXPECT(bytes, swap_##bytes(&lanes[lane], 7, 9) == (T)(top | 7)); /* refused */             \
            EXPECT(bytes, lanes[lane] == (T)(top | 7));                                                \
            EXPECT(bytes, swap_##bytes(&lanes[lane], top | 7, 9) == (T)(top | 7));                     \
            EXPECT(bytes, lanes[lane] == 9);                                                           \
                                                                                                       \
            T value = top | 2, found = 0, expected = 9;                                                \
            load_any(bytes, &lanes[lane], &found, __ATOMIC_SEQ_CST);                                   \
            EXPECT(bytes, found == 9);                                                                 \
            store_any(bytes, &lanes[lane], &value, __ATOMIC_SEQ_CST);                                  \
            EXPECT(bytes, lanes[lane] == value);                                                       \
            EXPECT(bytes, !compare_any(bytes, &lanes[lane], &expected, &found, 5, 5));                 \
            EXPECT(bytes, lanes[lane] == value && expected == value);                                  \
            EXPECT(bytes, compare_any(bytes, &lanes[lane], &expected, &found, 5, 5));                  \
            EXPECT(bytes, lanes[lane] == 9 && expected == value);                                      \
            exchange_any(bytes, &lanes[lane], &value, &found, __ATOMIC_SEQ_CST);                       \
            EXPECT(bytes, found == 9 && lanes[lane] == value);                                         \
            NEIGHBOURS_LEFT_ALONE(bytes);                                                              \
        }                                                                                              \
        EXPECT(bytes, is_lock_free(bytes, lanes) == (bytes < 8));                                      \
    }

DEFINE_CHECKS(uint8_t, 1)
DEFINE_CHECKS(uint16_t, 2)
DEFINE_CHECKS(uint32_t, 4)
DEFINE_CHECKS(uint64_t, 8)

/* A size that has no functions of its own. */
static void check_odd_size(void)
{
    struct odd {
        char text[12];
    } place = { "before" }, value = { "after" }, found = { "" }, expected = { "other" };
    load_any(sizeof place, &place, &found, __ATOMIC_SEQ_CST);
    EXPECT(12, strcmp(found.text, "before") == 0);
    EXPECT(12, !compare_any(sizeof place, &place, &expected, &value, 5, 5) && strcmp(expected.text, "before") == 0);
    EXPECT(12, compare_any(sizeof place, &place, &expected, &value, 5, 5) && strcmp(place.text, "after") == 0);
    exchange_any(sizeof place, &place, &found, &expected, __ATOMIC_SEQ_CST);
    EXPECT(12, strcmp(place.text, "before") == 0 && strcmp(expected.text, "after") == 0);
    store_any(sizeof place, &place, &value, __ATOMIC_SEQ_CST);
    EXPECT(12, strcmp(place.text, "after") == 0);
    EXPECT(12, !is_lock_free(sizeof place, &place));
}

/* Threads: all of them add to the same value in each of these ways, and none of what they add is lost. The lanes of one
 * word are all in use at once, so that a change to one that puts back an old neighbour is found. Each begins so close to
 * its end that it wraps; the low half of 8 bytes does so too, and its carry must not be seen apart from it. */

#define DEFINE_SHARED(T, bytes)                                                                        \
    static struct {                                                                                    \
        volatile T added, subtracted, swapped, toggled;                                                \
    } shared_##bytes __attribute__((aligned(8)));                                                      \
    static void add_to_##bytes(unsigned thread)                                                        \
    {                                                                                                  \
        const T mine = (T)1 << thread;                                                                 \
        for (unsigned long round = 0; round < rounds; round++) {                                       \
            add_##bytes(&shared_##bytes.added, 1);                                                     \
            sub_##bytes(&shared_##bytes.subtracted, 3);                                                \
            for (;;) {                                                                                 \
                T seen = shared_##bytes.swapped, wanted = seen + 5;                                    \
                if (bytes == 8)                                                                        \
                    load_any(bytes, &shared_##bytes.swapped, &seen, __ATOMIC_SEQ_CST), wanted = seen + 5; \
                if (swap_##bytes(&shared_##bytes.swapped, seen, wanted) == seen)                       \
                    break;                                                                             \
            }                                                                                          \
            EXPECT(bytes, (xor_##bytes(&shared_##bytes.toggled, mine) & mine) == (round & 1 ? mine : 0)); \
        }                                                                                              \
    }                                                                                                  \
    static void begin_##bytes(void)                                                                    \
    {                                                                                                  \
        shared_##bytes.added = (T)0 - (T)rounds;                                                       \
        shared_##bytes.subtracted = (T)rounds;                                                         \
        shared_##bytes.swapped = (T)0xfffff000;                                                        \
        shared_##bytes.toggled = 0;                                                                    \
    }                                                                                                  \
    static void end_##bytes(void)                                                                      \
    {                                                                                                  \
        const T all = (T)(rounds * THREADS);                                                           \
        EXPECT(bytes, shared_##bytes.added == (T)(all - (T)rounds));                                   \
        EXPECT(bytes, shared_##bytes.subtracted == (T)((T)rounds - (T)(3 * all)));                     \
        EXPECT(bytes, shared_##bytes.swapped == (T)(0xfffff000 + 5 * all));                            \
        EXPECT(bytes, shared_##bytes.toggled == (rounds & 1 ? (1 << THREADS) - 1 : 0));                \
    }

DEFINE_SHARED(uint8_t, 1)
DEFINE_SHARED(uint16_t, 2)
DEFINE_SHARED(uint32_t, 4)
DEFINE_SHARED(uint64_t, 8)

/* One thread's 8 bytes are always twice the same half; whoever sees two halves has seen a torn value. */
static volatile uint64_t halves;

static void look_for_torn(unsigned thread)
{
    for (unsigned long round = 0; round < rounds; round++) {
        const uint64_t value = (uint64_t)(round * THREADS + thread) * 0x100000001;
        uint64_t seen;
        if (round & 1)
            store_any(8, &halves, &value, __ATOMIC_SEQ_CST);
        else
            set_8(&halves, value);
        load_any(8, &halves, &seen, __ATOMIC_SEQ_CST);
        EXPECT(8, (uint32_t)seen == seen >> 32);
    }
}

/* The same by what a program writes; a lock made of it guards what is not atomic. */
static _Atomic uint8_t c11_1;
static _Atomic uint16_t c11_2;
static _Atomic uint32_t c11_4;
static _Atomic uint64_t c11_8;
static atomic_flag guard = ATOMIC_FLAG_INIT;
static volatile unsigned long guarded;

static void use_c11(unsigned thread)
{
    (void)thread;
    for (unsigned long round = 0; round < rounds; round++) {
        c11_1++;
        c11_2++;
        c11_4++;
        c11_8++;
        if (round % 16 == 0) {
            while (atomic_flag_test_and_set(&guard))
                continue;
            guarded = guarded + 1;
            atomic_flag_clear(&guard);
        }
    }
}

static pthread_barrier_t together;

static void *run_thread(void *number)
{
    const unsigned thread = (unsigned)(uintptr_t)number;
    pthread_barrier_wait(&together);
    add_to_1(thread);
    add_to_2(thread);
    add_to_4(thread);
    add_to_8(thread);
    look_for_torn(thread);
    use_c11(thread);
    return NULL;
}

static void check_threads(void)
{
    pthread_t threads[THREADS];
    begin_1();
    begin_2();
    begin_4();
    begin_8();
    pthread_barrier_init(&together, NULL, THREADS);
    for (unsigned thread = 0; thread < THREADS; thread++)
        if (pthread_create(&threads[thread], NULL, run_thread, (void *)(uintptr_t)thread) != 0) {
            puts("no thread can be started");
            exit(1);
        }
    for (unsigned thread = 0; thread < THREADS; thread++)
        pthread_join(threads[thread], NULL);
    end_1();
    end_2();
    end_4();
    end_8();
    const unsigned long all = rounds * THREADS;
    EXPECT(1, c11_1 == (uint8_t)all);
    EXPECT(2, c11_2 == (uint16_t)all);
    EXPECT(4, c11_4 == (uint32_t)all);
    EXPECT(8, c11_8 == all);
    EXPECT(4, guarded == (rounds + 15) / 16 * THREADS);
}

int main(int count, char **arguments)
{
    if (count > 1)
        rounds = strtoul(arguments[1], NULL, 10);
    check_1();
    check_2();
    check_4();
    check_8();
    check_odd_size();
    synchronize();
    check_threads();
    if (failures != 0) {
        printf("atomics: %u expectations failed\n", failures);
        return 1;
    }
    printf("atomics: all well, %d threads of %lu rounds\n", THREADS, rounds);
    return 0;
}
