# For Packer 1.8 and newer: `packer init packer/`. Debian 12's 1.6.6 has these builders inside and does not
# know this block, so it is given postkeep.pkr.hcl alone.
packer {
  required_plugins {
    qemu = {
      version = "~> 1.1"
      source  = "github.com/hashicorp/qemu"
    }
    vmware = {
      version = "~> 1.1"
      source  = "github.com/hashicorp/vmware"
    }
    ansible = {
      version = "~> 1.1"
      source  = "github.com/hashicorp/ansible"
    }
  }
}
