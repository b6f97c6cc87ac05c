"""The networks that see a subject: ELITE's, FastComposer's, IP-Adapter's."""
