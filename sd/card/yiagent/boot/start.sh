#!/bin/sh
# start.sh CARD: starts the camera the stock way, and beside it the keeper, which sees to the agent. Whatever is wrong
# with card, firmware or agent: the camera starts.
card=$1
place=/tmp/yiagent
stock=$place/stock.sh
# Why the agent is not to run; empty where it is.
why_not=

# The camera's own start-up without the hook's block. What stands before the block has been done already, by the very
# start-up that ran the hook; its plain variables are taken along.
if ! awk -f "$place/stock.awk" /home/init.sh >"$stock" || ! sh -n "$stock" 2>/dev/null; then
  # Not as it is known to be. Without a look at what it does: all of it, with the hook's name put out of sight.
  why_not="This camera's start-up (/home/init.sh) is not as yiagent knows it. The camera was started as if the card \
were not there, and the agent was left off."
  sed 's#/test/equip_test\.sh#/test/equip_test.none#g' /home/init.sh >"$stock"
fi

version=$(sed -n 's/^version=//p' /home/version 2>/dev/null | tr -d '\r' | head -n 1)
known=
while read -r pattern; do
  case $pattern in '' | '#'*) continue ;; esac
  # shellcheck disable=SC2254  # it is a pattern
  case $version in $pattern) known=yes ;; esac
done <"$place/firmware.txt"
if [ -z "$why_not$known" ] && ! ls "$card"/yiagent/ALLOW_UNKNOWN* >/dev/null 2>&1; then
  why_not="This camera's firmware (${version:-it does not say which}) is not among those that yiagent knows. The agent \
was left off. To have it run all the same, make an empty file named ALLOW_UNKNOWN in the folder yiagent of the card."
fi

sh "$place/keeper.sh" "$card" "$why_not" </dev/null >/dev/null 2>&1 &
exec sh "$stock"
