"""The exercises of lesson 1: tasks and hints (.toml), probes (.py), right answers that the lab has in another form."""
