# patina beside other methods, on the same data.
#
#   sh bench/peers/setup.sh FOLDER      # once: their environments
#   Rscript bench/peers/run.R FOLDER    # data, runs, tables
#
# Writes bench/results/peers_level.csv, peers_depth.csv, peers_mixture.csv, peers_layers.csv, peers_cost.csv and
# peers_versions.csv. Every run has a process and one core of its own. A method that is not installed is skipped with a word.
# Nothing in the package was chosen by these tables: choices have studies of their own, of other simulations.

folder <- commandArgs(trailingOnly = TRUE)[[1L]]
script <- normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
here <- dirname(script)
results <- file.path(dirname(here), "results")

python <- c(
  "squidpy Moran" = "current",
  FlashS = "current",
  scBSP = "current",
  Hotspot = "current",
  SpatialDE = "spatialde"
)
methods <- c("patina", "patina, anscombe", names(python), "SPARK-X", "nnSVG")

# Running -----------------------------------------------------------------------------------------

# What takes more than minutes is left out: SpatialDE above 700 spots, on a whole transcriptome, and on all but the
# first of several copies of 2,000 genes; nnSVG likewise.
too_slow <- function(method, set) {
  slow <- method %in% c("SpatialDE", "nnSVG")
  slow && (grepl("3600|20000|1024|layers_bulb", set) || grepl("^level.*[23]$", set))
}

run_one <- function(method, set) {
  data <- file.path(folder, "data", set)
  out <- file.path(folder, "results", paste(set, gsub("[^A-Za-z]+", "_", method), sep = "."))
  dir.create(dirname(out), showWarnings = FALSE)
  if (too_slow(method, set)) {
    return(NULL)
  }
  if (!file.exists(paste0(out, ".json"))) {
    one_core <- c("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    one_core <- paste0(one_core, "=1")
    if (method %in% names(python)) {
      # R's own libraries are not Python's
      one_core <- c(one_core, "LD_LIBRARY_PATH=")
      program <- file.path(folder, python[[method]], "bin", "python")
      arguments <- c(shQuote(file.path(here, "peer.py")), shQuote(method), shQuote(data), shQuote(out))
    } else {
      program <- file.path(R.home("bin"), "Rscript")
      arguments <- c(shQuote(file.path(here, "peer.R")), shQuote(method), shQuote(data), shQuote(out))
    }
    log <- paste0(out, ".log")
    status <- system2(program, arguments, stdout = log, stderr = log, env = one_core)
    if (status != 0L) {
      message(method, " on ", set, ": ", utils::tail(c("no output", readLines(log)), 1L))
      return(NULL)
    }
  }
  p <- read.csv(paste0(out, ".csv"))
  truth <- read.csv(file.path(data, "truth.csv"))
  text <- readLines(paste0(out, ".json"))
  number <- function(key) as.numeric(sub(sprintf('.*"%s": ([0-9.]+).*', key), "\\1", text))
  list(
    method = method,
    set = set,
    pval = p$pval,
    truth = truth,
    version = sub('.*"version": "([^"]+)".*', "\\1", text),
    cpu = number("cpu"),
    memory = number("memory")
  )
}

# Tables ------------------------------------------------------------------------------------------

group_of <- function(set) sub("_[0-9]$", "", set)

by_method <- function(runs, kind, table) {
  runs <- Filter(\(run) startsWith(run$set, kind), runs)
  keys <- vapply(runs, \(run) paste(group_of(run$set), run$method, sep = "\r"), character(1L))
  rows <- lapply(split(runs, factor(keys, unique(keys))), function(copies) {
    row <- table(copies)
    cbind(data = group_of(copies[[1L]]$set), method = copies[[1L]]$method, row)
  })
  do.call(rbind, rows)
}

share_below <- function(p, a) round(mean(p <= a, na.rm = TRUE), 5)

level_table <- function(copies) {
  p <- unlist(lapply(copies, `[[`, "pval"))
  total <- unlist(lapply(copies, \(run) run$truth$total))
  stratum <- cut(total, c(0, 10, 50, 200, Inf), c("3-10", "10-50", "50-200", "200+"), right = FALSE)
  rows <- lapply(c(levels(stratum), "all"), function(which) {
    p <- p[which == "all" | stratum == which]
    data.frame(
      total = which,
      genes = sum(!is.na(p)),
      p_0.05 = share_below(p, 0.05),
      p_0.01 = share_below(p, 0.01),
      p_0.001 = share_below(p, 0.001)
    )
  })
  do.call(rbind, rows)
}

depth_table <- function(copies) {
  p <- unlist(lapply(copies, `[[`, "pval"))
  rich <- unlist(lapply(copies, \(run) run$truth$total >= 200))
  found <- unlist(lapply(copies, \(run) p.adjust(run$pval, "BH") <= 0.05))
  data.frame(
    genes = sum(!is.na(p)),
    found = round(mean(found, na.rm = TRUE), 4),
    p_0.05 = share_below(p, 0.05),
    rich_p_0.05 = share_below(p[rich], 0.05)
  )
}

mixture_table <- function(copies) {
  scores <- vapply(
    copies,
    function(run) {
      found <- p.adjust(run$pval, "BH") <= 0.05
      found[is.na(found)] <- FALSE
      spatial <- run$truth$spatial == 1
      c(sum(found & !spatial) / max(sum(found), 1), mean(found[spatial]), area(run$pval, spatial))
    },
    numeric(3L)
  )
  scores <- round(rowMeans(scores), 3)
  data.frame(fdp = scores[[1L]], power = scores[[2L]], auc = scores[[3L]])
}

# P(a spatial gene is ranked before another one); genes without a p-value come last.
area <- function(p, spatial) {
  p[is.na(p)] <- 1
  rank <- rank(-p)
  ones <- sum(spatial)
  (sum(rank[spatial]) - ones * (ones + 1) / 2) / (ones * (length(p) - ones))
}

layers_table <- function(copies) {
  run <- copies[[1L]]
  known <- !is.na(run$truth$spatial)
  differs <- run$truth$spatial == 1
  top <- order(run$pval)[seq_len(100L)]
  data.frame(
    auc = round(area(run$pval[known], differs[known]), 3),
    top_100 = sum(differs[top], na.rm = TRUE),
    found = sum(p.adjust(run$pval, "BH") <= 0.05, na.rm = TRUE),
    found_alike = sum(p.adjust(run$pval, "BH") <= 0.05 & known & !differs, na.rm = TRUE)
  )
}

cost_table <- function(copies) {
  data.frame(
    genes = nrow(copies[[1L]]$truth),
    cpu_seconds = round(mean(vapply(copies, `[[`, numeric(1L), "cpu")), 2),
    memory_mb = round(max(vapply(copies, `[[`, numeric(1L), "memory")))
  )
}

write_table <- function(table, name) {
  rownames(table) <- NULL
  cat("\n", name, "\n", sep = "")
  print(table, row.names = FALSE)
  write.csv(table, file.path(results, paste0("peers_", name, ".csv")), row.names = FALSE)
}

if (!dir.exists(file.path(folder, "data"))) {
  system2(file.path(R.home("bin"), "Rscript"), c(shQuote(file.path(here, "data.R")), shQuote(folder)))
}
sets <- list.files(file.path(folder, "data"))
runs <- unlist(lapply(sets, \(set) lapply(methods, run_one, set = set)), recursive = FALSE)
runs <- Filter(Negate(is.null), runs)
options(width = 140)
write_table(by_method(runs, "level", level_table), "level")
write_table(by_method(runs, "depth", depth_table), "depth")
write_table(by_method(runs, "mixture", mixture_table), "mixture")
write_table(by_method(runs, "layers", layers_table), "layers")
write_table(rbind(by_method(runs, "mixture", cost_table), by_method(runs, "scale", cost_table)), "cost")
versions <- unique(do.call(
  rbind,
  lapply(runs, \(run) data.frame(method = run$method, version = run$version))
))
write_table(versions, "versions")
