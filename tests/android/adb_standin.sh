#!/bin/sh
# Stand-in for the adb client with one phone, for tests without root: commands run on this computer, where the phone's
# storage is a directory beside this script and its programs are those of standins/. What it says of a broken device is
# what adb says. Files beside it steer it: `devices` (lines of adb devices), `trouble.WORD` (what that command says
# before it fails), `once.WORD` (the same, one time), `silent.WORD` (it ends with status 0 and does nothing),
# `truncates` (what is pushed arrives cut). `calls` has every command line.
home=$(cd "$(dirname "$0")" && pwd)
echo "$*" >>"$home/calls"
serial=
while :; do
  case $1 in
  -P) shift 2 ;;
  -s | -t) serial=$2; shift 2 ;;
  *) break ;;
  esac
done
word=$1
if [ -e "$home/once.$word" ]; then cat "$home/once.$word" >&2; rm "$home/once.$word"; exit 1; fi
if [ -e "$home/trouble.$word" ]; then cat "$home/trouble.$word" >&2; exit 1; fi
if [ -e "$home/silent.$word" ]; then exit 0; fi
there() { printf '%s' "$1" | sed "s#/data/local/tmp#$home/storage#g; s#/sys/devices#$home/sysfs/devices#g"; }
case $word in
devices) printf 'List of devices attached\n'; cat "$home/devices"; echo ;;
connect) echo "failed to connect to '$2': Connection refused" ;;
shell) STANDIN_DATA=$home PATH=$home/bin:$PATH exec sh -c "$(there "$4")" ;;
push) if [ -e "$home/truncates" ]; then head -c 10 "$2" >"$(there "$3")"; else cp "$2" "$(there "$3")"; fi ;;
pull) if [ -e "$(there "$2")" ]; then cp "$(there "$2")" "$3"; else
  echo "adb: error: failed to stat remote object '$2': No such file or directory" >&2; exit 1; fi ;;
*) echo "adb: unknown command $word" >&2; exit 1 ;;
esac
