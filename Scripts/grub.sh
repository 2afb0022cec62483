# Shared by the scripts beside this file that make disks with GRUB, which source it.

# install_grub DISK CORE START: makes BIOSes start DISK, an image with a partition table, by CORE, an image of grub-mkimage's,
# which goes to sector START. What GRUB's installer does: its boot sector's code in front of the partition table, which
# begins at 0x1b8; there, at 0x5c, where its core is; and in the core's first sector, at 0x1f4, where the rest of it is.
install_grub() {
  local disk=$1 core=$2 start=$3
  put_image "$core" "$disk" "$start"
  dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=1 count=$((0x1b8)) conv=notrunc status=none
  put_number "$disk" $((0x5c)) 8 "$start"
  # Stay with the drive that the BIOS names.
  put_number "$disk" $((0x66)) 2 $((0x9090))
  put_number "$disk" $((start * 512 + 0x1f4)) 8 $((start + 1))
  put_number "$disk" $((start * 512 + 0x1fc)) 2 $((($(stat -c %s "$core") + 511) / 512 - 1))
}

# put_image FILE DISK SECTOR: copies a file, but for its holes.
put_image() { dd if="$1" of="$2" bs=512 seek="$3" conv=notrunc,sparse status=none; }

# put_number DISK OFFSET BYTES VALUE: writes a little-endian number.
put_number() {
  local value=$4 bytes=
  for ((i = 0; i < $3; i++)); do
    bytes+=$(printf '\\x%02x' $((value & 255)))
    value=$((value >> 8))
  done
  printf "%b" "$bytes" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
