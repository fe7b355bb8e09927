"""What happens before and beside the agent at each start: identity, disks, what the deployment says."""
