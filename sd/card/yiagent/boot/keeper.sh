#!/bin/sh
# keeper.sh CARD WHY_NOT: has the agent run for as long as the camera does. WHY_NOT: why it is not to; then that is told
# on the card, and nothing else is done.
#
# It runs from memory, and touches the card only when the stock start-up is done with it. Nothing is written but to /tmp
# and the card.
card=$1 why_not=$2
home=$card/yiagent
place=/tmp/yiagent
console=$place/console.log
problems=$home/yiagent-problems.txt
boots=$home/bad-boots.txt
device=/dev/hd1

most_bad_boots=3
healthy_s=60
look_s=2
ahead_kb=16
stock_s=120
longest_wait_s=60
most_console_bytes=65536

# --- the card ---

card_is_there() { [ -e "$device" ] && [ -e "$home/yiagent" ] && grep -q ' vfat ' /proc/mounts; }

# Unmounts what a pulled card has left, and mounts it when it is back.
wait_for_card() {
  until card_is_there; do
    if [ -e "$device" ]; then
      grep -q ' vfat ' /proc/mounts || mount -t vfat "$device" "$card"
    elif grep -q ' vfat ' /proc/mounts; then
      umount "$card" || umount -l "$card"
    fi
    sleep 1
  done
  # Some start-ups mount it so that nothing can be written.
  if ! touch "$home/.yiagent" 2>/dev/null; then
    mount -o remount,rw "$card"
  fi
  rm -f "$home/.yiagent"
}

# What is wrong, for whoever looks at the card on a PC; nothing: all is well. Written only where it is something new.
tell() {
  if [ -z "$1" ]; then
    [ ! -e "$problems" ] || rm -f "$problems"
  else
    printf '%s\n' "$1" | awk '{ printf "%s\r\n", $0 }' >"$place/problems"
    [ "$(cat "$place/problems")" = "$(cat "$problems" 2>/dev/null)" ] || cp "$place/problems" "$problems"
  fi
  sync
}

# --- the camera's own start-up ---

stock_is_done() {
  pidof rmm >/dev/null && { pidof dispatch || pidof exnet || pidof peripheral || pidof watch_process; } >/dev/null
}

wait_for_stock() {
  waited=0
  until stock_is_done || [ $waited -ge $stock_s ]; do
    sleep 1
    waited=$((waited + 1))
  done
}

# The stock start-up has the card read a megabyte ahead, which suits recordings. For programs that run from it, with two
# megabytes of memory left for what is read, each page that is missing then drives out all others: 95 % of the processor
# went into that. Until the next boot.
read_less_ahead() {
  for queue in /sys/block/mmcblk*/queue/read_ahead_kb; do
    [ ! -e "$queue" ] || echo $ahead_kb >"$queue"
  done
}

# --- what the owner has set in camera.txt ---

# option NAME: its value; edited on any PC.
option() {
  tr -d '\r' <"$home/camera.txt" 2>/dev/null | sed 's/#.*//; s/ *$//' | sed -n "s/^ *$1 *= *//p" | head -n 1
}

use_swap() {
  megabytes=$(option swap_mb)
  case $megabytes in '' | 0 | *[!0-9]*) return ;; esac
  swap=$home/swap
  if [ "$(wc -c <"$swap" 2>/dev/null)" != $((megabytes * 1048576)) ]; then
    dd if=/dev/zero of="$swap" bs=65536 count=$((megabytes * 16)) 2>/dev/null && mkswap "$swap" || return
  fi
  swapon "$swap"
}

# --- the vendor's programs that make room for HD ---

# They are stopped while the agent wants HD, and started again as they were when it does not any more.
names_to_stop() {
  for name in $(option stop_for_hd); do
    case $name in
      rmm | *[!A-Za-z0-9_]*) ;;
      *) echo "$name" ;;
    esac
  done
}

make_room() {
  [ ! -e "$place/stopped" ] || return
  : >"$place/stopped"
  for name in $(names_to_stop); do
    for pid in $(pidof "$name"); do
      library=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^LD_LIBRARY_PATH=//p')
      command=$(tr '\0' ' ' <"/proc/$pid/cmdline")
      echo "LD_LIBRARY_PATH=$library $command" >>"$place/stopped"
      kill "$pid"
    done
  done
}

give_back() {
  [ -e "$place/stopped" ] || return
  while read -r command; do
    # shellcheck disable=SC2086  # a command and its words
    (cd /home && exec env $command) </dev/null >/dev/null 2>&1 &
  done <"$place/stopped"
  rm -f "$place/stopped"
}

see_to_room() {
  [ -n "$room_wanted" ] || return
  if grep -l YIAGENT_CHANNEL=hd /proc/[0-9]*/environ 2>/dev/null | grep -q .; then
    make_room
  else
    give_back
  fi
}

# --- the agent ---

bad_boots() { tr -cd '0-9' <"$boots" 2>/dev/null; }

# Ends with what the agent ended with; 200 where the card was pulled.
run_once() {
  "$home/yiagent" run -c "$home/yiagent.yaml" </dev/null >>"$console" 2>&1 &
  agent=$!
  lived=0
  while kill -0 $agent 2>/dev/null; do
    if [ ! -e "$device" ]; then
      # What it has not read yet of itself is gone with the card. Its own guard ends its ffmpeg.
      kill -9 $agent
      wait $agent
      return 200
    fi
    sleep $look_s
    lived=$((lived + look_s))
    if [ $lived = $healthy_s ]; then
      rm -f "$boots"
      tell ''
    fi
    # What lies in /tmp takes memory.
    if [ $((lived % healthy_s)) = 0 ] && [ "$(wc -c <"$console")" -gt $most_console_bytes ]; then
      tail -n 100 "$console" >"$console.new" && cat "$console.new" >"$console"
      rm -f "$console.new"
    fi
    see_to_room
  done
  wait $agent
}

keep_it_running() {
  wait_s=1
  last_words_told=
  while true; do
    wait_for_card
    run_once
    status=$?
    give_back
    [ -e "$device" ] || continue
    if [ $lived -lt $healthy_s ] && [ -z "$last_words_told" ]; then
      tail -n 50 "$console" | awk '{ printf "%s\r\n", $0 }' >"$home/last-words.txt"
      last_words_told=yes
    fi
    case $status in
      200) wait_s=1 ;;
      2) tell "$("$home/yiagent" check -c "$home/yiagent.yaml" 2>&1)" ;;
    esac
    [ $lived -lt $healthy_s ] || wait_s=1
    sleep $wait_s
    wait_s=$((wait_s * 2))
    [ $wait_s -le $longest_wait_s ] || wait_s=$longest_wait_s
  done
}

# --- all of it ---

# Of Python, and of whatever it starts: there are no others on a camera.
export SSL_CERT_FILE="$home/ca-certificates.crt"
mkdir -p "$place"
wait_for_stock
ifconfig lo 127.0.0.1 up
read_less_ahead
wait_for_card
# A start-up that was run as a whole has put another /tmp over this one.
mkdir -p "$place"
if [ -z "$why_not" ] && ls "$home"/DISABLE* >/dev/null 2>&1; then
  why_not='The agent is off because there is a file DISABLE in the folder yiagent of the card.'
fi
count=$(bad_boots)
if [ -z "$why_not" ] && [ "${count:-0}" -ge $most_bad_boots ]; then
  why_not="The camera was started $count times without the agent running for a minute, so it was left off. Its last \
words are in last-words.txt. To try again, delete bad-boots.txt in the folder yiagent of the card."
fi
if [ -n "$why_not" ]; then
  tell "$why_not"
  exit
fi
# Until it has run for a minute, this boot counts as a bad one.
echo $((${count:-0} + 1)) >"$boots"
sync
use_swap
room_wanted=$(names_to_stop)
: >"$console"
keep_it_running
