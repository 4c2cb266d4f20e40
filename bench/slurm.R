# Genes of an HDF5 file on the nodes of a Slurm cluster: the results of one process, bit for bit.
#
#   Rscript bench/slurm.R [FOLDER] [GENES] [WORKERS]
#
# FOLDER is one that all nodes see, for the file, the spectra and batchtools' registry. Needs `sbatch` and a
# partition that runs jobs; there is no result in its place where they are absent.

suppressPackageStartupMessages({
  library(patina)
  library(BiocParallel)
})
arguments <- commandArgs(TRUE)
folder <- if (length(arguments) > 0L) arguments[[1L]] else tempdir()
genes <- if (length(arguments) > 1L) as.integer(arguments[[2L]]) else 3000L
workers <- if (length(arguments) > 2L) as.integer(arguments[[3L]]) else 2L
if (!nzchar(Sys.which("sbatch")) || system("sinfo --noheader", ignore.stdout = TRUE) != 0L) {
  stop("There is no Slurm here: `sinfo` does not answer.")
}
options(patina.tempdir = folder)

# A fifth of the genes has a gradient; values are stored by gene, so that a worker reads its own only.
set.seed(1)
side <- 45L
coords <- as.matrix(expand.grid(x = seq_len(side), y = seq_len(side)))
n <- nrow(coords)
means <- rgamma(genes, 1) + 0.1
counts <- matrix(0L, genes, n, dimnames = list(paste0("gene", seq_len(genes)), paste0("spot", seq_len(n))))
for (g in seq_len(genes)) {
  trend <- if (g %% 5L == 0L) exp(sin(coords[, 1L] / 7 + g)) else 1
  counts[g, ] <- rnbinom(n, mu = means[[g]] * trend, size = 3)
}
file <- file.path(folder, "counts.h5")
unlink(file)
stored <- HDF5Array::writeHDF5Array(counts, file, "counts", chunkdim = c(64L, n), with.dimnames = TRUE)
spe <- SpatialExperiment::SpatialExperiment(assays = list(counts = stored), spatialCoords = coords)
rm(counts)

test <- function(param) {
  time <- system.time(
    results <- suppressMessages(spatial_test(spe, threads = workers, progress = FALSE, BPPARAM = param))
  )
  list(results = results, seconds = time[["elapsed"]])
}
run <- function(name, param) {
  found <- test(param)
  same <- identical(found$results, serial$results)
  cat(sprintf("%-20s %6.1f s, %s\n", name, found$seconds, if (same) "identical" else "DIFFERENT"))
  same
}

input <- patina:::as_input(spe)
task <- length(serialize(patina:::worker_input(input, seq_len(128L)), NULL))
cat(sprintf(
  "%d genes, %d spots, %s; %d bytes tell a worker of its genes\n",
  genes,
  n,
  class(SummarizedExperiment::assay(spe))[[1L]],
  task
))
serial <- test(SerialParam())
cat(sprintf("%-20s %6.1f s\n", "SerialParam", serial$seconds))
registry <- file.path(folder, "registry")
unlink(registry, recursive = TRUE)
slurm <- BatchtoolsParam(
  workers,
  cluster = "slurm",
  template = batchtoolsTemplate("slurm"),
  registryargs = batchtoolsRegistryargs(file.dir = registry),
  resources = list(walltime = 3600, ncpus = 1, memory = 1000)
)
same <- c(
  run("MulticoreParam", MulticoreParam(workers)),
  run("SnowParam", SnowParam(workers)),
  run("Slurm", slurm)
)
quit(status = as.integer(!all(same)))
