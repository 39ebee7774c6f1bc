#!/bin/busybox sh
# The guest's first process once its root disk is mounted: runs the job and tells the host how it went.
export PATH=/usr/bin

port() {
  for entry in /sys/class/virtio-ports/*; do
    if [ "$(cat "$entry/name")" = "$1" ]; then
      echo "/dev/${entry##*/}"
      return
    fi
  done
}

exec 9> "$(port control)"
say() {
  echo "$*" >&9
}

# Each standard stream is a pipe with a relay behind it: a port can be opened only once, while a program may
# open its /dev/stdout again, and the relay knows how many bytes the host has to wait for.
relay() {
  mkfifo "/run/vm/$1"
  /usr/bin/dd bs=64k < "/run/vm/$1" > "$(port "$1")" 2> "/run/vm/$1.count" 9>&- &
}

relayed() {
  sed -n 's/^\([0-9]*\) byte.*/\1/p' "/run/vm/$1.count"
}

streams_ended() {
  [ -n "$(relayed stdout)" ] && [ -n "$(relayed stderr)" ]
}

# Ends whatever the job left running, since it may hold the streams open; kernel threads have no executable.
end_leftovers() {
  for process in /proc/[0-9]*; do
    id=${process#/proc/}
    case " 1 $stdout $stderr " in *" $id "*) continue ;; esac
    readlink "$process/exe" > /dev/null && kill -9 "$id" 2> /dev/null
  done
}

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
ip link set lo up
for processor in /sys/devices/system/cpu/cpu*/online; do
  [ "$(cat "$processor")" = 1 ] || echo 1 > "$processor"
done
hostname vm
modprobe loop

relay stdout
stdout=$!
relay stderr
stderr=$!

say "started $(uname -r)"
setsid /run/vm/job < /dev/null > /run/vm/stdout 2> /run/vm/stderr 9>&- &
wait $!
say "exited $?"

patience=50
until streams_ended; do
  patience=$((patience - 1))
  [ "$patience" = 0 ] && end_leftovers
  sleep 0.04
done

dmesg > /run/vm/dmesg
cat /run/vm/dmesg > "$(port dmesg)"
say "sent $(relayed stdout) $(relayed stderr) $(stat -c %s /run/vm/dmesg)"
say done
poweroff -f
