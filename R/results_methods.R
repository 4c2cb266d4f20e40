# The first looks at a result: its best genes, and what it says as a whole.

#' The genes with the smallest p-values
#'
#' @param results A result of [spatial_test()] or [model_search()], or part of one.
#' @param n How many genes; fewer if fewer have a p-value.
#' @returns The rows of the `n` genes with the smallest p-values, smallest first. Genes without a p-value
#'   are never among them.
#' @section Errors:
#' `patina_error_argument` if `results` has neither a column `log10_pval` nor `pval`, or `n` is not a whole
#' number.
#' @seealso [summary.patina_test()], [plot_genes()]
#' @export
#' @examples
#' tissue <- example_tissue()
#' coords <- tissue$sample_info[c("x", "y")]
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' top_genes(results, 4)
#' plot_genes(tissue$counts, coords, top_genes(results, 4))
top_genes <- function(results, n = 10) {
  # the logarithm also tells apart what underflows
  by <- if (is.data.frame(results) && !is.null(results[["log10_pval"]])) "log10_pval" else "pval"
  check_columns(results, c("gene", by), "results")
  check_whole_number(n, min = 0)
  pval <- results[[by]]
  results[utils::head(order(pval, na.last = NA), n), ]
}

#' Summary of a test
#'
#' @param object,x A result of [spatial_test()], and its summary.
#' @param fdr False discovery rate: genes with `qval` below it are hits.
#' @param ... Not used.
#' @returns A list of class `summary.patina_test`:
#' * `status`: a tibble of `status` and `genes`, how many have it;
#' * `hits`: number of genes with `qval` below `fdr`, and `fdr`;
#' * `lengthscales`: a tibble with a row for each kernel that is the best one of a hit: `model`,
#'   `lengthscale`, `hits`, and their median `fsv`;
#' * `top`: the five genes with the smallest p-values;
#' * `run`: the attribute `patina` of the result, with the `seconds` it took if it was made with
#'   `progress = TRUE`.
#' @export
#' @examples
#' tissue <- example_tissue()
#' summary(spatial_test(tissue$counts, tissue$sample_info[c("x", "y")], threads = 1))
summary.patina_test <- function(object, fdr = 0.05, ...) {
  check_columns(object, c("gene", "status", "qval", "fsv", "lengthscale", "model"), "object")
  check_number(fdr, \(x) x > 0 && x < 1, "between 0 and 1")
  hits <- object[which(object$qval < fdr), ]
  statuses <- sort(table(object$status), decreasing = TRUE)
  found <- hits[!is.na(hits$model), ]
  kernel <- interaction(found$model, found$lengthscale, drop = TRUE, lex.order = TRUE)
  groups <- split(seq_len(nrow(found)), kernel)
  lengthscales <- tibble::tibble(
    model = vapply(groups, \(i) found$model[i[[1L]]], "", USE.NAMES = FALSE),
    lengthscale = vapply(groups, \(i) found$lengthscale[i[[1L]]], 0, USE.NAMES = FALSE),
    hits = lengths(groups, use.names = FALSE),
    fsv = vapply(groups, \(i) stats::median(found$fsv[i], na.rm = TRUE), 0, USE.NAMES = FALSE)
  )
  structure(
    list(
      status = tibble::tibble(status = as.character(names(statuses)), genes = as.vector(statuses)),
      hits = nrow(hits),
      fdr = fdr,
      lengthscales = lengthscales[order(lengthscales$model, lengthscales$lengthscale), ],
      top = top_genes(object, 5L)$gene,
      run = attr(object, "patina")
    ),
    class = "summary.patina_test"
  )
}

#' @rdname summary.patina_test
#' @export
print.summary.patina_test <- function(x, ...) {
  total <- sum(x$status$genes)
  cli::cat_line(sprintf(
    "%s gene%s tested%s: %s with qval < %s",
    count_text(total),
    if (total == 1L) "" else "s",
    if (is.null(x$run$seconds)) "" else sprintf(" in %s s", signif(x$run$seconds, 3L)),
    count_text(x$hits),
    format(x$fdr)
  ))
  other <- x$status[x$status$status != "ok", ]
  if (nrow(other) > 0L) {
    cli::cat_line("not ok: ", paste(count_text(other$genes), other$status, collapse = ", "))
  }
  run <- run_summary(structure(list(), patina = x$run))
  width <- max(nchar(names(run)), 0L) + 2L
  for (name in names(run)) {
    text <- strwrap(run[[name]], cli::console_width() - width)
    cli::cat_line(formatC(c(paste0(name, ":"), rep("", length(text) - 1L)), width = -width), text)
  }
  if (x$hits > 0L) {
    cli::cat_line("top:", strrep(" ", width - 4L), paste(x$top, collapse = ", "))
    cli::cat_line("Hits by kernel, with the median fraction of spatial variance:")
    print(as.data.frame(x$lengthscales), row.names = FALSE, digits = 3)
  }
  invisible(x)
}
