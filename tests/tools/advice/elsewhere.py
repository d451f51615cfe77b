"""Messages whose advice another test carries out, and those whose advice nothing here can carry out."""

# part of the message: (test file, a part of that test).
TESTED_BY = {
    "has pairs of sentences, of which the second is segment 1": ("tests/tools/peer_folders_test.py", "pairs_for_one_segment"),
    "expected names for all numbers from 0. Write it": ("tests/tools/peer_folders_test.py", "labels_of_a_classifier"),
    "is a file of PyTorch, expected one of safetensors": ("tests/tools/peer_folders_test.py", "pytorch_file_by_another_name"),
    "could not be had": ("tests/tools/cuda_errors_test.py", "test_too_little_memory_is_explained_and_the_advice_works"),
    "{} is {}, but {} is {} ({}): two launchers disagree": ("tests/dist/launch_test.cpp", "two launchers disagree"),
    "but MASTER_ADDR is not set": ("tests/dist/launch_test.cpp", "MASTER_ADDR is not set"),
    "is busy: another program listens there": ("tests/dist/rendezvous_test.cpp", "is busy"),
    "Make it once, on any machine with Python": ("tests/models/bert/peer_test.cpp", "conversion_program"),
    "verify-resume: {} of {} runs differ from the undisturbed one": ("tests/tools/verify_resume_test.py", "runs differ from the undisturbed"),
    "Remove the file: the products are timed anew": ("tests/tools/cuda_errors_test.py", "Remove the file"),
}

# part of the message: why its advice can't be carried out by a test on one machine with this build.
LIBRARY = "said to a program that calls the library: no verb reaches it, since settings are checked before"
NOT_HERE = {
    "Install it with: apt-get install libgloo-dev": "needs a build without Gloo",
    "Install NVIDIA's packages libnccl2": "needs a build without NCCL, and a GPU",
    "Use a newer minibert": "needs a version that does not exist yet",
    "MINIBERT_DIRECT_ALLOCATOR is 1, expected it unset": "needs a GPU",
    "train.graph is on, but train.fixed_shapes is off": "needs a GPU",
    "train.graph is on, expected off with {} ranks": "needs GPUs",
    "has been run before and what it saved is freed": LIBRARY,
    "the batch has no next-sentence labels": LIBRARY,
    "loader: global batch size is {}": LIBRARY,
    "loader: micro-batch size is {}": LIBRARY,
    "loader: token capacity is {}": LIBRARY,
    "data has no next-sentence pairs, expected pairs": LIBRARY,
    "{} masked rows in {} sequences": "needs shards that disagree with their own manifest, whose other checks come first",
    "is a mount point, expected a folder that can be renamed": "needs a file system to mount",
    "cannot be renamed to {} ({}). Rename it by hand": "needs a disk that fails between two calls",
    "Nothing of this step is saved. Go on from the checkpoint before it": "the step's own check comes first, and gives the same advice",
    "22 bits of dropout's random counter": "needs 4,194,303 steps",
    "a pipe or a circle of links, expected a file or nothing": "each verb checks its own --output before",
    "it has no published runs, expected a section [published]": "tests/tools/plan_verb_test.cpp has the example that it names",
    "{}: format version is {}, expected {}. Build the data again with this version": "needs shards of another version",
    "bert: the model has no head for question answering": LIBRARY,
    "bert: the model has no head for classification": LIBRARY,
    "published.recipes has": "lists names: there is no one fix",
    "is a folder, expected a vocabulary file": LIBRARY,
    "It holds what --memory leaves no room for": "needs a full disk",
    "say where Git LFS keeps the file, expected the file": "needs a repository with Git LFS; tests/tools/peer_folders_test.py has the file",
    "Export the column with the texts as lines": "needs a program that reads Parquet",
    "{}, expected the same in both. Make them equal": "needs two lists that only another program writes; tests/tools/peer_folders_test.py has folders with both",
}
