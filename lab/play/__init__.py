"""`lab play`: one page in the browser that watches the lab's own code while it runs."""
