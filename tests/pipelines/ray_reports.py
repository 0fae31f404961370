"""Ray's report of a process that it killed, from version 2.60, shortened."""

OOM_REPORT = """\
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 01ee) was \
7.08GB used / 23.54GB limit (0.300930)
OOM kill reason: Memory usage 7598202880B exceeded threshold of 7582950912B (30.0% of 25276502016B limit)
Ray killed 1 worker(s) based on the killing policy
Selected to kill: (Actor(fbf1): job ID=01, task name=A.__init__, pid=19383, actual memory used=4.34GB, worker ID=e6e8)
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
19383\t4.34\tray::A.f
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/en/latest/debug-memory.html
"""
