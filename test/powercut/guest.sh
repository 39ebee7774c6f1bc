# In the guest: applications sync records on a disk whose writes are logged, while something moves its files.
#
#   guest.sh DEVICE DATA BLOCK HELD WRITERS MOVER AT
#
# MOVER is ours, e4defrag, or unsafe: ours without its barrier.
set -eu
device=$1 data=$2 block=$3 held=$4 writers=$5 mover=$6 at=$7
folder=/mnt/${device##*/}
mkdir -p "$folder"
# No commit comes by chance: only what somebody asks for is on the disk.
mount -t ext4 -o "data=$data,commit=300" "$device" "$folder"
build/test/records write "$folder" "$block" "$device" "$at" "$held" "$writers" &
applications=$!
sleep 0.3
echo moving
case $mover in
  # Whoever syncs all the time makes it wait, by default.
  ours) node dist/cli/main.js defrag --no-state --full --pressure 100 --priority normal "$folder" ;;
  unsafe) tsx test/powercut/unsafe.ts "$folder" ;;
  e4defrag) e4defrag "$folder" > /dev/null || true ;;
esac
sleep 0.2
kill "$applications"
wait "$applications"
# What is on the disk now is no matter: unmounting would write the rest.
echo moved
