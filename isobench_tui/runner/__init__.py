"""WHEN: the background process that works the queue - scheduler, attempt phases, retry policy, recovery."""
