"""What the hypervisor says at the deployment: OVF environment and guestinfo, read, checked, wiped."""
