"""The only privileged code of the appliance: answers the console's calls, one file a concern."""
