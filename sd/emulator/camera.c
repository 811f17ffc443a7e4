/*
 * Stands in for the programs of the camera's vendor, by whose names it is linked: takes memory, and sleeps.
 *
 * How much, in kB of anonymous memory, is a guess (nobody has published figures of the real ones) and can be set on the
 * kernel's command line: yi.NAME=KB. `rmm`, the encoder, also feeds the watchdog, which reboots the camera without it.
 * `rmm FILE` plays a sound and ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SOUND_US 200000
#define FEED_S 1

static const struct program {
    const char *name;
    size_t kb;
} programs[] = {
    {"rmm", 9000},    {"log_server", 500}, {"watch_process", 300}, {"led_ctl", 300},
    {"dispatch", 500}, {"exnet", 500},     {"peripheral", 400},
};

/* What the kernel's command line says of this name, else what the table says. */
static size_t memory_kb(const char *name)
{
    char line[2048] = " ", wanted[64];
    size_t kb = 0, i;
    int file = open("/proc/cmdline", O_RDONLY);
    const char *found;

    if (file >= 0) {
        ssize_t length = read(file, line + 1, sizeof line - 2);
        if (length > 0)
            line[length + 1] = '\0';
        close(file);
    }
    for (i = 0; i < sizeof programs / sizeof *programs; i++)
        if (strcmp(name, programs[i].name) == 0)
            kb = programs[i].kb;
    snprintf(wanted, sizeof wanted, " yi.%s=", name);
    found = strstr(line, wanted);
    return found ? strtoul(found + strlen(wanted), NULL, 10) : kb;
}

static int take(size_t kb)
{
    size_t i;
    char *memory;

    if (kb == 0)
        return 0;
    memory = mmap(NULL, kb * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    /* No page like another, and none empty. */
    for (i = 0; i < kb * 1024; i += sizeof(size_t))
        *(size_t *)(memory + i) = i + 1;
    return 0;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    int is_rmm = strcmp(name, "rmm") == 0, watchdog = -1;

    if (is_rmm && argc > 1) {
        usleep(SOUND_US);
        return 0;
    }
    if (take(memory_kb(name)) != 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return 1;
    }
    if (is_rmm)
        watchdog = open("/dev/watchdog", O_WRONLY);
    while (is_rmm) {
        if (watchdog >= 0 && write(watchdog, "", 1) != 1)
            return 1;
        sleep(FEED_S);
    }
    for (;;)
        pause();
}
