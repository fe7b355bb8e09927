base_disk   = "build/image/base.qcow2"
ssh_key     = "build/image/build_key"
output      = "build/image/packer"
accelerator = "tcg"
