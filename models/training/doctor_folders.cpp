// doctor_folders.cpp: checks of the disks. A save in miniature goes through the same calls as a
// checkpoint (file_system.h), so what a file system can't do is found before the first one.
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "models/training/doctor_checks.h"
#include "models/training/file_system.h"

namespace minibert::doctor {
namespace fs = std::filesystem;
namespace {

constexpr double kGiB = 1 << 30;

/// The type of the file system that holds `path`: the longest mount point above it, the last of equal
/// ones. "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw", blanks as \040.
std::string file_system_of(const Machine& machine, const fs::path& path) {
  const std::string text = fs::weakly_canonical(path).string() + "/";
  std::ifstream file(machine.root / "proc/self/mountinfo");
  std::string type = "unknown file system";
  size_t longest = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word, mount;
    for (int i = 0; i < 5; ++i) words >> mount;
    while (words >> word && word != "-") continue;
    words >> word;
    for (size_t at; (at = mount.find("\\040")) != std::string::npos;) mount.replace(at, 4, 1, ' ');
    if (mount.back() != '/') mount += '/';
    if (text.rfind(mount, 0) != 0 || mount.size() < longest) continue;
    longest = mount.size();
    type = word;
  }
  return type;
}

bool is_network(const std::string& type) {
  for (const char* name : {"nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "9p", "fuse."})
    if (type.rfind(name, 0) == 0) return true;
  return false;
}

/// Takes and leaves the lock that keeps two runs out of one folder. "" or what went wrong.
std::string try_lock(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  const bool locked = file >= 0 && ::flock(file, LOCK_EX | LOCK_NB) == 0;
  const int error = errno;
  if (file >= 0) ::close(file);
  return locked ? "" : fmt::format("{}: can't be locked: {}.", path.string(), std::strerror(error));
}

/// Writes, syncs, renames and swaps as a save does, in a folder of its own. Returns bytes/s of writing.
/// Errors: CheckpointError; what only a second save of the same step needs is added to `faults`.
double save_in_miniature(const fs::path& folder, int64_t size, Faults& faults) {
  FileSystem files;
  const fs::path here = folder / fmt::format(".minibert-doctor-{}", ::getpid());
  struct Remove {
    fs::path path;
    ~Remove() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  };
  files.make_folder(here);
  const Remove remove{here};
  const std::string bytes(static_cast<size_t>(size), 'm');
  const auto start = std::chrono::steady_clock::now();
  files.write_text(here / "weights", bytes);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  for (const char* name : {"new", "old"}) files.make_folder(here / name);
  try {
    files.exchange(here / "new", here / "old");
  } catch (const CheckpointError& error) {
    faults.add(warn(error.what(), "--output-dir of a local disk"));
  }
  files.rename(here / "new", here / "moved");
  files.make_link("moved", here / "latest");
  files.sync(here);
  const std::string error = try_lock(here / ".lock");
  MB_CHECK_AS(CheckpointError, error.empty(), "{}", error);
  return static_cast<double>(bytes.size()) / seconds.count();
}

/// What makes writing to a folder of this user possible; of another's, only another folder does.
std::string writable_by(const fs::path& folder) {
  struct stat status {};
  const bool mine = ::stat(folder.c_str(), &status) == 0 && status.st_uid == ::geteuid();
  const bool closed = mine && (status.st_mode & S_IRWXU) != S_IRWXU && ::geteuid() != 0;
  return closed ? fmt::format("chmod u+rwx '{}'", folder.string())
                : "--output-dir of a local disk that you may write to";
}

}  // namespace

Result output_folder(const Machine& machine, const DoctorRequest& request) {
  const fs::path folder = nearest_existing(request.output_dir);
  const std::string type = file_system_of(machine, folder);
  const std::string kind = fmt::format("{}{}", type, is_network(type) ? " over a network" : "");
  const std::string name =
      request.output_dir == "." ? folder.lexically_normal().string() : request.output_dir.string();
  if (!fs::is_directory(folder))
    return fail(fmt::format("{}: {} is a file", name, folder.string()), "another --output-dir");
  Faults faults;
  double rate = 0;
  try {
    rate = save_in_miniature(folder, machine.disk_probe_bytes, faults);
  } catch (const Error& error) {
    return fail(fmt::format("{} ({}): {}", name, kind, error.what()), writable_by(folder));
  }
  const auto space = static_cast<double>(machine.space(folder).available);
  const std::string found =
      fmt::format("{} ({}): {} free, writes {:.0f} MB/s", name, kind, size_text(space), rate / 1e6);
  if (space < 8 * kGiB)
    faults.add(warn("little: a checkpoint takes 12 bytes a parameter, and a run keeps several",
                    "--output-dir of a larger disk (df -h), or a smaller --keep-last"));
  if (type == "overlay")
    faults.add(warn("a container's own layer, lost with it",
                    "docker run -v \"$PWD/runs:/runs\", then --output-dir /runs/NAME"));
  if (type == "tmpfs" || type == "ramfs")
    faults.add(warn("in memory, lost when the machine stops", "--output-dir of a disk"));
  return faults.with(found);
}

Result data_folder(const Machine& machine, const DoctorRequest& request) {
  if (request.data.empty()) return std::nullopt;
  const std::string name = request.data.string();
  std::error_code error;
  int64_t files = 0;
  double bytes = 0;
  for (fs::directory_iterator entry(request.data, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!entry->is_regular_file(error)) continue;
    if (::access(entry->path().c_str(), R_OK) != 0)
      return fail(
          fmt::format("{}: can't be read: {}", entry->path().string(), std::strerror(errno)),
          fmt::format("sudo chmod a+r '{}'", entry->path().string()));
    bytes += static_cast<double>(entry->file_size());
    ++files;
  }
  if (error)
    return fail(fmt::format("{}: can't be read: {}", name, error.message()),
                "--data with the folder that minibert data build --output has written");
  const fs::path folder = nearest_existing(request.data);
  const std::string type = file_system_of(machine, folder);
  const std::string found = fmt::format(
      "{} ({}{}): {} files, {}; {} free", name, type, is_network(type) ? " over a network" : "",
      files, size_text(bytes), size_text(static_cast<double>(machine.space(folder).available)));
  if (files == 0)
    return fail(found + ": no shards",
                "--data with the folder that minibert data build --output has written");
  return ok(found);
}

Result shared_memory(const Machine& machine, const DoctorRequest&) {
  const fs::path path = machine.root / "dev/shm";
  const std::string remount = "or as root: mount -o remount,size=1g /dev/shm";
  if (!fs::is_directory(path))
    return warn("there is none: ranks of one machine can't share memory",
                "as root: mkdir /dev/shm && mount -t tmpfs -o mode=1777 tmpfs /dev/shm");
  const fs::space_info space = machine.space(path);
  const std::string found =
      fmt::format("{} free of {}", size_text(static_cast<double>(space.available)),
                  size_text(static_cast<double>(space.capacity)));
  if (static_cast<double>(space.capacity) < kGiB)
    return warn(found + ": NCCL on several GPUs wants more (Docker gives 64 MiB)",
                "docker run --shm-size=1g, or --ipc=host; " + remount);
  if (static_cast<double>(space.available) < kGiB / 4)
    return warn(found + ": full",
                "ls -lS /dev/shm shows what is left there; remove it; " + remount);
  return ok(found);
}

}  // namespace minibert::doctor
