# shellcheck shell=sh disable=SC2086,SC2164
# A stand-in for the camera's start-up script, written for yiagent: the same steps in the same order, with the same
# habits (no shebang, no checks, the card below /tmp and mounted twice), none of the vendor's lines but the few that a
# program on the card has to know.
killall telnetd
ifconfig eth0 down

mkdir -p /tmp
mount tmpfs /tmp -t tmpfs -o size=32m

rm /home/hd1 -r
rm /home/hd2 -r
mkdir -p /tmp/hd1/record
mkdir -p /tmp/hd2/record
ln -s /tmp/hd1 /home/hd1
ln -s /tmp/hd2 /home/hd2

mount -t vfat /dev/hd1 /home/hd1

if [ -f "/home/hd1/test/equip_test.sh" ]; then
	/home/hd1/test/equip_test.sh
	exit
fi

export LD_LIBRARY_PATH=/home/libusr:$LD_LIBRARY_PATH

rm /etc/resolv.conf
ln -s /tmp/resolv.conf /etc/resolv.conf

/home/log_server &

cd /home
/home/rmm "/home/welcome.snd"
/home/led_ctl -boff -yon &
/home/load_wifi
ifconfig ra0 up

sysctl -w fs.mqueue.msg_max=256
mkdir /dev/mqueue
mount -t mqueue none /dev/mqueue

sysctl -w net.ipv4.tcp_mem='3072    4096    2000000'
sysctl -w net.core.wmem_max='2000000'
sysctl -w net.ipv4.tcp_keepalive_time=300 net.ipv4.tcp_keepalive_intvl=6 net.ipv4.tcp_keepalive_probes=3
echo "1024" > /sys/block/mmcblk0/queue/read_ahead_kb

umount /home/hd1
umount /home/hd2
mount -t vfat /dev/hd1 /home/hd1
mkdir /home/hd1/record
mkdir /home/hd1/record_sub

cd /home
./peripheral &
./dispatch &
./exnet &

/home/monitor_wifi &

cd /home
./rmm &

/home/watch_process &

sleep 5
rm /home/hd1/FSCK*
echo "start ok!"
