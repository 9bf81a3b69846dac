"""How many compiled programs of a kind a process keeps."""

# JAX keeps a jitted function's programs as long as the function lives. On the CPU a program takes 30 to 300
# of the 65,530 memory maps that Linux allows a process, and JAX crashes without one: a process that trains
# ever new networks would end after some 160 of them. So each network has a jitted function of its own, and a
# process keeps the last ones of each kind.
KEPT_PROGRAMS = 32
