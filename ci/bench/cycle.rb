# As daemons in Ruby do it: File#flock, the PID, unlink. Serves src/runner.rs as a separate process.
# Usage: cycle.rb cycle|cycle-fsync|refusal FILE
what, path = ARGV
$stdout.sync = true

cycle = lambda do
  File.open(path, File::RDWR | File::CREAT, 0o644) do |file|
    raise 'held' unless file.flock(File::LOCK_EX | File::LOCK_NB)
    file.truncate(0)
    file.write("#{Process.pid}\n")
    what == 'cycle-fsync' ? file.fsync : file.flush
    File.unlink(path)
    file.flock(File::LOCK_UN)
  end
end

refusal = lambda do
  File.open(path, File::RDWR | File::CREAT, 0o644) do |file|
    raise 'free' if file.flock(File::LOCK_EX | File::LOCK_NB)
    Integer(file.read)
  end
end

work = what == 'refusal' ? refusal : cycle
while (times = $stdin.gets)
  Process.ppid
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  Integer(times).times { work.call }
  stop = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  Process.ppid
  puts stop - start
end
