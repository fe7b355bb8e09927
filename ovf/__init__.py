"""OVF, OVA and VMX of the appliance, rendered from one description, and what checks them."""
