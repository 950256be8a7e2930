# PID 1 of a host: makes private what hosts do not share, then becomes its sshd, which also reaps orphans.
# From the environment: NAME, HOME, BASE (the test's folder), KEPT (folders that stay as they are), SHORTENED (of Ray).
set -e

hide() {
    mount --bind "$1" /mnt
    mount -t tmpfs -o mode="$2" tmpfs "$1"
    for kept in $KEPT; do
        case "$kept" in "$1"/*)
            mkdir -p "$kept"
            mount --bind "/mnt${kept#"$1"}" "$kept" ;;
        esac
    done
    umount /mnt
}

hostname "$NAME"
ip link set lo up
hide /tmp 1777
hide "$HOME" 700
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount --bind "$BASE/hosts" /etc/hosts
cp /etc/skel/.profile "$HOME"
{ echo "export $SHORTENED"; cat /etc/skel/.bashrc; } > "$HOME/.bashrc"
# Where cluster/local.yaml looks for the environment that it would install otherwise.
ln -s "$VENV" "$HOME/gcc-search-env"
mkdir /run/sshd
exec /usr/sbin/sshd -D -f "$BASE/sshd_config" -E "$BASE/sshd-$NAME.log"
