"""List tools: choices written into contacts of listmonk, Mautic and Keila before they send."""
