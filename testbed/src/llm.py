"""Serves a model with llama.cpp's own server: MODEL ADDRESS PORT."""

import sys
import threading

import xllamacpp

model, address, port = sys.argv[1:]
settings = xllamacpp.CommonParams()
settings.model.path = model
settings.model_alias = {"random"}
settings.hostnames = [address]
settings.port = int(port)
settings.n_ctx = 32768
settings.n_parallel = 1
settings.cpuparams.n_threads = 1
settings.warmup = False
server = xllamacpp.Server(settings)
threading.Event().wait()
