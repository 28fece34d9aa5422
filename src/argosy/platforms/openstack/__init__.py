"""Servers as machines of an OpenStack cloud: Nova, Cinder, Neutron and Glance, by openstacksdk."""
