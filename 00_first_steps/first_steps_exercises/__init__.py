"""The exercises of the first steps: tasks and hints (.toml), probes (.py), right answers that are not lesson code."""
