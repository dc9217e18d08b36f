# What the build wrote down (cmake/install.cmake).

torch_version: str
