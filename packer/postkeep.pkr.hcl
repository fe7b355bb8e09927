# The appliance's disk. packer/build.py drives this; by hand, from the repository's root:
#   packer build -only=qemu.postkeep   -var-file=packer/qemu.pkrvars.hcl   packer/postkeep.pkr.hcl
#   packer build -only=vmware-iso.postkeep -var-file=packer/vmware.pkrvars.hcl packer/
# Valid for Packer 1.6.6 (Debian 12), which reads this file alone, and for today's, which reads the folder
# with plugins.pkr.hcl (`packer init packer/` first).

variable "version" {
  type        = string
  default     = "0"
  description = "Of the product; build.py takes it from the server."
}

# --- qemu: the base disk that packer/base_disk.py made -------------------------------------------------

variable "base_disk" {
  type    = string
  default = "build/image/base.qcow2"
}

variable "output" {
  type    = string
  default = "build/image/packer"
}

variable "ssh_key" {
  type        = string
  default     = "build/image/build_key"
  description = "The private key that the base disk lets in; the playbook's last role takes it away."
}

variable "accelerator" {
  type        = string
  default     = "tcg"
  description = "kvm where it works; build.py tries it."
}

variable "memory" {
  type        = string
  default     = "2048"
  description = "MiB of the machine that is provisioned, not of the appliance."
}

variable "cpus" {
  type    = string
  default = "2"
}

# --- vmware-iso: for those who have Workstation, Fusion or a Player, and a Debian ISO ------------------

variable "iso_url" {
  type    = string
  default = "debian-13.0.0-amd64-netinst.iso"
}

variable "iso_checksum" {
  type        = string
  default     = "none"
  description = "sha256:… from SHA256SUMS beside the ISO. Do not leave it out."
}

variable "build_password" {
  type        = string
  default     = "build-only"
  description = "Of root while the image is built (http/preseed.cfg names it too); a role replaces it."
}

source "qemu" "postkeep" {
  accelerator      = var.accelerator
  cpus             = var.cpus
  memory           = var.memory
  machine_type     = "pc"
  headless         = true
  disk_image       = true
  use_backing_file = false
  iso_url          = var.base_disk
  iso_checksum     = "none"
  format           = "qcow2"
  disk_interface   = "virtio"
  disk_cache       = "unsafe"
  disk_discard     = "unmap"
  net_device       = "virtio-net"
  skip_compaction  = true
  skip_resize_disk = true
  boot_wait        = "-1s"
  output_directory = var.output
  vm_name          = "system.qcow2"
  qemuargs         = [["-cpu", "max"]]

  communicator         = "ssh"
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_key
  ssh_timeout          = "15m"
  # --force: services write nothing more into the sealed disk, which is unmounted all the same.
  shutdown_command = "systemctl poweroff --force"
  shutdown_timeout = "5m"
}

source "vmware-iso" "postkeep" {
  iso_url              = var.iso_url
  iso_checksum         = var.iso_checksum
  guest_os_type        = "debian12-64"
  version              = "13"
  vm_name              = "postkeep"
  cpus                 = var.cpus
  memory               = var.memory
  disk_size            = 16384
  disk_adapter_type    = "pvscsi"
  disk_type_id         = "0"
  network_adapter_type = "vmxnet3"
  headless             = true
  output_directory     = "build/image/packer-vmware"
  http_directory       = "packer/http"
  boot_wait            = "5s"
  boot_command = [
    "<esc><wait>auto url=http://{{ .HTTPIP }}:{{ .HTTPPort }}/preseed.cfg ",
    "hostname=postkeep domain= priority=critical<enter>"
  ]

  communicator     = "ssh"
  ssh_username     = "root"
  ssh_password     = var.build_password
  ssh_timeout      = "60m"
  shutdown_command = "systemctl poweroff --force"
}

build {
  sources = ["source.qemu.postkeep", "source.vmware-iso.postkeep"]

  provisioner "ansible" {
    playbook_file = "ansible/site.yml"
    user          = "root"
    use_proxy     = false
    ansible_env_vars = [
      "ANSIBLE_CONFIG=ansible/ansible.cfg",
      "ANSIBLE_PIPELINING=True",
      "ANSIBLE_HOST_KEY_CHECKING=False",
      "ANSIBLE_NOCOLOR=1"
    ]
    extra_arguments = [
      "-e", "ansible_python_interpreter=/usr/bin/python3",
      "-e", "seal_version=${var.version}"
    ]
  }
}
