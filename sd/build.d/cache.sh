# shellcheck shell=bash disable=SC2154 # cache is sd/build's
# Steps that are done once for the same inputs. Sourced by sd/build.
#
# $cache/steps/NAME-KEY         what a step made; KEY is a hash of all that it was made from
# $cache/steps/NAME-KEY.sha256  its checksums, looked at before it is used again
# $cache/steps/NAME.log         what the step said when it was last done
# $cache/work                   where the running step works; gone when it has ended well
# $cache/downloads              what came from Debian, checked each time it is used
set -euo pipefail

# result NAME: the folder with what an earlier step made.
declare -A results keys
result() { printf '%s' "${results[$1]:?no step $1 before this one}"; }

# step NAME FUNCTION [ARGUMENT...] -- INPUT...
# Runs FUNCTION in an empty folder, with `$out` another one for its result, unless it was done before with the same
# inputs: the function itself, its arguments, and each INPUT: a file or folder of the checkout, or @NAME, an earlier step.
step() {
  local name=$1 function=$2 given=() key folder
  shift 2
  while [[ $1 != -- ]]; do
    given+=("$1")
    shift
  done
  shift
  key=$(key_of "$name" "$function" "${given[*]}" "$@")
  folder=$cache/steps/$name-$key
  results[$name]=$folder
  keys[$name]=$key
  if is_whole "$folder"; then
    say "  $name: as before"
    return
  fi
  # Also what somebody has changed by hand: it is made anew.
  rm -rf "$folder" "$folder.sha256"

  local work=$cache/work log=$cache/steps/$name.log out began=$SECONDS
  say "  $name ..."
  rm -rf "$work"
  out=$work/.result
  mkdir -p "$out"
  # In the background, because `set -e` means nothing in what is asked whether it succeeded.
  (
    cd "$work"
    "$function" "${given[@]}"
  ) </dev/null >"$log" 2>&1 &
  if ! wait $!; then
    say "  $name failed. The last lines of $log:"
    tail -n 20 "$log" >&2
    exit 1
  fi
  checksums "$out" >"$folder.sha256"
  mv "$out" "$folder"
  rm -rf "$work"
  say "  $name: $((SECONDS - began)) s"
}

key_of() {
  local name=$1 function=$2 arguments=$3 input
  shift 3
  {
    printf '%s\n' "$name" "$arguments"
    declare -f "$function"
    for input in "$@"; do
      case $input in
        @*) printf '%s\n' "$input ${keys[${input#@}]:?no step ${input#@} before this one}" ;;
        *) [[ ! -e $input ]] || find "$input" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum ;;
      esac
    done
  } | sha256sum | cut -c 1-12
}

checksums() (
  cd "$1"
  find . -type f -print0 | sort -z | xargs -0 -r sha256sum
)

is_whole() {
  [[ -d $1 && -e $1.sha256 ]] || return 1
  (cd "$1" && { [[ ! -s $1.sha256 ]] || sha256sum --quiet --check "$1.sha256" >/dev/null 2>&1; })
}
