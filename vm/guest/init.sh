#!/bin/busybox sh
# First program of the guest, in the initramfs: finds the disks, mounts them, and hands over to run.sh.
export PATH=/bin
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

# The host takes this line of the kernel log for the end of the run.
fail() {
  echo "<2>ext4-defrag-vm: error: $*" > /dev/kmsg
  poweroff -f
}

for module in /modules/*.ko; do
  insmod "$module" 2> /dev/kmsg # a driver for hardware that is not there may refuse
done

# An archive without a job asks only whether a guest gets this far.
if [ ! -e /vm/job ]; then
  echo '<5>ext4-defrag-vm: booted' > /dev/kmsg
  poweroff -f
fi

# Disks are known by their serial number: the order in which they appear is not promised.
disk() {
  for block in /sys/block/vd*; do
    if [ "$(cat "$block/serial")" = "$1" ]; then
      echo "/dev/${block##*/}"
      return
    fi
  done
}

mount -t ext4 "$(disk base)" /root || fail 'cannot mount the root disk'
mount -t ext4 -o ro,noload "$(disk modules)" /root/usr/lib/modules || fail 'cannot mount the modules disk'
mount -t ext4 "$(disk project)" /root/project || fail 'cannot mount the project disk'
# Nothing writes to the rest of the sparse scratch disk, so the host need not store it.
mount -t ext4 -o noinit_itable,discard "$(disk scratch)" /root/scratch || fail 'cannot mount the scratch disk'
mount -o bind /root/node_modules /root/project/node_modules || fail 'cannot mount node_modules'

for block in /sys/block/vd*; do
  case "$(cat "$block/serial")" in
    extra*) ln -s "${block##*/}" "/dev/$(cat "$block/serial")" ;;
  esac
done

for folder in proc sys dev; do
  mount -o move "/$folder" "/root/$folder"
done
mount -t tmpfs tmpfs /root/run
mount -t tmpfs tmpfs /root/tmp
cp -r /vm /root/run/vm
exec switch_root /root /run/vm/run
