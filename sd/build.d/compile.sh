# shellcheck shell=bash disable=SC2154 # root, cache, out and python are sd/build's
# The programs for the camera, each from its source to a stripped file. Sourced by sd/build.
set -euo pipefail

# What zig's libraries lack, or have otherwise than we need it.
build_support() {
  for_camera
  local warnings='-std=c11 -Wall -Wextra -Werror -Wno-atomic-alignment' name
  for name in atomics strerror; do
    # shellcheck disable=SC2086  # words
    camera-cc $small $warnings -c "$root/sd/src/$name.c" -o $name.o
  done
  mkdir "$out/lib"
  camera-ar rcs "$out/lib/libcamera.a" atomics.o strerror.o
  export SD_LIBS=$out
  # shellcheck disable=SC2086
  camera-cc $small $warnings "$root/sd/src/test_atomics.c" -o test_atomics $static
  strip_for_camera test_atomics -o "$out/test_atomics"
  emulated "$out/test_atomics" 100000
}

build_zlib() {
  for_camera
  cp -r "$(result source-zlib)/zlib" zlib
  cd zlib
  CC=camera-cc AR=camera-ar RANLIB=camera-ranlib CFLAGS=$small CHOST=arm-linux ./configure --static
  make -j2 libz.a
  mkdir "$out/lib" "$out/include"
  cp libz.a "$out/lib/"
  cp zlib.h zconf.h "$out/include/"
}

# TLS 1.2 and 1.3 with what servers and brokers use; no engines, nothing that loads code, no old ciphers.
build_openssl() {
  for_camera
  cp -r "$(result source-openssl)/openssl" openssl
  cd openssl
  local without=(shared dso engine module legacy tests comp ssl3 dtls srp psk async afalgeng autoload-config ui-console
    idea camellia seed rc2 rc4 rc5 md4 mdc2 whirlpool rmd160 cast bf des aria gost sm2 sm3 sm4 ocb siphash
    cms cmp ts ct dsa)
  # Before Linux 3.17 there is no getrandom(). OpenSSL would wait for /dev/random then, which can take minutes on a
  # camera that has just been switched on, and keep that in a shared memory segment which its kernel may not have.
  # shellcheck disable=SC2086
  CC=camera-cc AR=camera-ar RANLIB=camera-ranlib ./Configure linux-armv4 \
    "${without[@]/#/no-}" --prefix=/usr --libdir=lib --openssldir=/etc/ssl \
    $small -DOPENSSL_RAND_SEED_DEVRANDOM_SHM_ID=-1
  make -j2 build_generated
  make -j2 libcrypto.a libssl.a
  mkdir "$out/lib"
  cp libcrypto.a libssl.a "$out/lib/"
  mkdir "$out/include"
  cp -r include/openssl "$out/include/"
  find "$out/include" -name '*.in' -delete
}

# build_ffmpeg copy|audio: RTSP in, RTMP and RTMPS out. `copy` decodes and encodes nothing; `audio` makes AAC of what
# cameras send, and of silence.
build_ffmpeg() {
  local kind=$1 version audio
  version=$(version_of ffmpeg)
  for_camera support openssl
  if [[ $kind == audio ]]; then
    audio=(--enable-swresample --enable-avdevice --enable-indev=lavfi --enable-encoder=aac
      --enable-decoder='aac,pcm_u8,pcm_alaw,pcm_mulaw,pcm_s16be,pcm_s16le,adpcm_g726,adpcm_g726le'
      --enable-filter='anullsrc,aresample,aformat,anull,abuffer,abuffersink')
  else
    audio=(--disable-swresample --disable-avdevice)
  fi
  # Not with --cpu: the names it takes are not zig's. The processor is in camera-cc.
  "$(result source-ffmpeg)/ffmpeg/configure" \
    --enable-cross-compile --arch=armv5te --target-os=linux \
    --disable-armv6 --disable-armv6t2 --disable-vfp --disable-neon --disable-thumb --disable-runtime-cpudetect \
    --cc=camera-cc --ar=camera-ar --ranlib=camera-ranlib --nm=arm-linux-gnueabi-nm --disable-stripping \
    --pkg-config=false --extra-version="${version##*-}" \
    --extra-cflags='-ffunction-sections -fdata-sections' --extra-ldflags="$static" \
    --disable-everything --disable-autodetect --disable-doc --disable-debug --enable-small \
    --disable-programs --enable-ffmpeg --disable-swscale --disable-postproc --disable-iconv \
    --enable-version3 --enable-openssl --enable-network \
    --enable-demuxer=rtsp --enable-muxer=flv --enable-protocol='rtmp,rtmps,tls,tcp,udp,rtp,pipe' \
    --enable-parser=h264,hevc,aac --enable-bsf=aac_adtstoasc,extract_extradata,h264_mp4toannexb \
    "${audio[@]}"
  make -j2 V=1 ffmpeg
  strip_for_camera ffmpeg -o "$out/ffmpeg"
  emulated "$out/ffmpeg" -hide_banner -protocols
}

# One program that needs no other file than its library, lib/python311.zip beside it.
build_python() {
  local psutil sources version
  for_camera support zlib openssl
  cp -r "$(result source-python3.11)/python3.11" python
  cd python
  cp "$root/sd/build.d/Setup.local" Modules/

  # psutil's C half, as its setup.py has it for Linux.
  psutil=$(result source-psutil)/psutil
  mkdir Modules/psutil
  cp -r "$psutil/_psutil_linux.c" "$psutil/arch" Modules/psutil/
  version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$psutil/__init__.py")
  sed -i "1i #define PSUTIL_VERSION ${version//./}" Modules/psutil/_psutil_linux.c
  sources=$(cd Modules && printf '%s ' psutil/_psutil_linux.c psutil/arch/{all,posix,linux}/*.c)
  printf '%s\n' "_psutil_linux $sources -D_GNU_SOURCE -DPSUTIL_LINUX -DPSUTIL_POSIX" >>Modules/Setup.local

  # What is frozen is listed in the Makefile, by this.
  "$python" -B -s -S Tools/scripts/freeze_modules.py

  CONFIG_SITE=$root/sd/build.d/config.site \
    CC=camera-cc AR=camera-ar RANLIB=camera-ranlib READELF=arm-linux-gnueabi-readelf \
    OPT='-DNDEBUG -fwrapv' CFLAGS="$small -Wno-atomic-alignment" LDFLAGS="$static" LINKFORSHARED=' ' \
    ./configure --host=arm-linux-musleabi --build=x86_64-linux-gnu --with-build-python="$python" \
    --with-openssl="$(result openssl)" --enable-ipv6 --disable-shared --disable-test-modules --without-ensurepip \
    --without-doc-strings --without-static-libpython
  make -j2 LINKFORSHARED=' ' python
  strip_for_camera python -o "$out/python3"
}
