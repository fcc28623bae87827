#!/bin/sh
# A device for the loop: its own mounts, processes and root directory, and in it the real adbd on a port of loopback.
# usage: unshare --user --map-root-user --mount --pid --fork sh device.sh ROOT PORT MEGABYTES ADBD STANDINS PROCESSOR
# What Android has and Linux does not (getprop, dumpsys, settings, cpufreq) are stand-ins: scripts and files. With
# PROCESSOR arm64 it runs ARM64 programs through qemu-aarch64, registered in the binfmt_misc of its own user namespace.
set -eu
root=$1 port=$2 megabytes=$3 adbd=$4 standins=$5 processor=$6
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc proc dev sys tmp adbd root data/local/tmp system
for name in bin sbin lib lib64; do
  if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$name"
  elif [ -d "/$name" ]; then mkdir "$name"; mount --rbind "/$name" "$name"; fi
done
mount --rbind /usr usr
mount --rbind /etc etc
mount --rbind /dev dev
mount -t proc proc proc
mount --bind "$adbd" adbd
cp -r "$standins/." system/
cp -r system/sysfs/. sys/
mount -t tmpfs -o "size=${megabytes}m,mode=777" tmpfs data/local/tmp
if [ "$processor" = arm64 ]; then
  mount -t binfmt_misc binfmt_misc proc/sys/fs/binfmt_misc
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf ':qemu-aarch64:M::%s:%s:%s:F' "$magic" "$mask" "$(command -v qemu-aarch64)" >proc/sys/fs/binfmt_misc/register
  mount --bind system/cpuinfo proc/cpuinfo
fi
libraries=/adbd/usr/lib/$(uname -m)-linux-gnu
# QEMU's default processor has extensions whose emulation computes wrong results; this one is a phone's.
ADBD_PORT=$port QEMU_CPU=cortex-a76 PATH=/system/bin:/usr/bin:/bin:/usr/sbin:/sbin exec chroot . \
  /lib64/ld-linux-x86-64.so.2 --library-path "$libraries/android:$libraries" \
  /adbd/usr/lib/android-sdk/platform-tools/adbd
