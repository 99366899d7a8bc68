"""The exercises of lesson 2: tasks and hints (.toml), probes (.py), right answers that the lab has in another form."""
