"""What the token systems are compared with: a module each, whose `DiffusersStep` is a `Peer` of `token_step`."""
