# In the guest: applications sync records on a disk whose writes are logged, while something moves its files.
#
#   guest.sh DEVICE DATA BLOCK HELD MOVER AT
#
# MOVER is ours, e4defrag, or unsafe: ours without its barrier.
set -eu
device=$1 data=$2 block=$3 held=$4 mover=$5 at=$6
folder=/mnt/${device##*/}
mkdir -p "$folder"
# No commit comes by chance: only what somebody asks for is on the disk.
mount -t ext4 -o "data=$data,commit=300" "$device" "$folder"
build/test/records write "$folder" "$block" "$device" "$at" "$held" &
writers=$!
sleep 0.3
echo moving
case $mover in
  ours) node dist/cli/main.js defrag --no-state --full "$folder" || echo "exit $?" ;;
  unsafe) tsx test/powercut/unsafe.ts "$folder" ;;
  e4defrag) e4defrag "$folder" > /dev/null || true ;;
esac
sleep 0.2
kill "$writers"
wait "$writers"
# What is on the disk now is no matter: unmounting would write the rest.
echo moved
