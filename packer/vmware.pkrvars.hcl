# The ISO of the current Debian 13 (netinst) and its line of SHA256SUMS.
iso_url      = "debian-13-amd64-netinst.iso"
iso_checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
