# shellcheck shell=bash disable=SC2034,SC2154 # cache is sd/build's; small and static are used in compile.sh
# How everything for the camera is compiled: a change here has all of it made anew. Sourced by sd/build.
set -euo pipefail

# What all of it is compiled with: small, and in sections of which the linker leaves out what nobody calls.
small='-Os -ffunction-sections -fdata-sections'
# Static, at a fixed address, so that nothing is relocated when it starts and every page of it can be dropped and read
# again. zig asks for 16 MB of stack; musl would take that for each thread.
static='-static -no-pie -Wl,--gc-sections -Wl,-z,stack-size=1048576 -lcamera'

# for_camera STEP...: from here on, this is compiled with the camera's tools, against what these steps have made.
for_camera() {
  local name
  export PATH=$PATH SD_WORK=$PWD SD_LIBS='' ZIG_GLOBAL_CACHE_DIR=$cache/zig ZIG_LOCAL_CACHE_DIR=$PWD/.zig
  PATH=$(result toolchain)/bin:$PATH
  for name in "$@"; do SD_LIBS+=" $(result "$name")"; done
}

strip_for_camera() { arm-linux-gnueabi-strip --remove-section=.comment --remove-section='.note*' "$@"; }

# emulated COMMAND: as on the camera's processor. Its kernel is not emulated: system calls are answered by this one.
emulated() { qemu-arm-static -cpu arm926 "$@"; }
