"""The appliance's descriptors and packages: OVF, OVA and VMX, rendered from one description, and what checks them."""
