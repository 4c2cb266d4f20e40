# What is known of the spots: where they are, and which sample each belongs to.

#' The coordinates that the user gave, or named, or that the class carries
#' @noRd
find_coords <- function(coords, expression, call) {
  if (is.character(coords) && is.null(dim(coords))) {
    return(named_coords(coords, expression, call))
  }
  if (!is.null(coords)) {
    return(coords)
  }
  carried <- expression$coords
  if (NCOL(carried) > 0L && !is.null(carried)) {
    return(carried)
  }
  places <- names(expression$places)
  abort_patina(
    c(
      if (is.null(carried)) {
        "{.arg coords} is missing."
      } else {
        "{.arg x} has no coordinates: {.code spatialCoords(x)} has no columns."
      },
      i = "Give a table with one row per spot and 1 to 3 columns.",
      i = if (!is.null(expression$samples)) {
        "Or name columns of the spots' table in {.arg x}: {.code coords = c(\"x\", \"y\")}."
      },
      i = if (length(places) > 0L) {
        "Or name one of {.val {first_few(places)}}: {.code coords = \"{places[[1]]}\"}."
      },
      i = if (is.null(carried) && is.null(expression$class)) {
        "A {.cls SpatialExperiment}, a Seurat object with images and an AnnData file with
          {.code obsm[\"spatial\"]} carry their own."
      }
    ),
    class = "coords",
    call = call
  )
}

#' Coordinates that the user named: a matrix that the class carries, or columns of its table of spots
#' @noRd
named_coords <- function(coords, expression, call) {
  places <- expression$places
  if (length(coords) == 1L && coords %in% names(places)) {
    return(unname_rows(places[[coords]]))
  }
  columns <- expression$samples
  absent <- setdiff(coords, names(columns))
  if (length(absent) == 0L && length(coords) > 0L) {
    return(unname_rows(columns[coords]))
  }
  abort_patina(
    c(
      "{.arg coords} names {.val {first_few(absent)}}, which {.arg x} does not have.",
      i = if (length(columns) > 0L) {
        "Columns of its spots' table are {.val {first_few(names(columns), 10L)}}."
      },
      i = if (length(places) > 0L) "Its matrices of spots are {.val {first_few(names(places), 10L)}}.",
      i = if (is.null(columns) && is.null(places)) {
        "Give a table with one row per spot and 1 to 3 columns."
      },
      i = if (any(absent %in% expression$genes)) "To name genes use {.arg genes}."
    ),
    class = "coords",
    call = call
  )
}

#' Does the first of some columns number the spots, by its name?
#' @noRd
numbers_spots <- function(names) {
  of_ids <- "^(id|ids|index|idx|spots?|cells?|bins?|barcodes?|rn|unnamed.*|.*[_. ]id)$"
  # what readers of tables call a first column without a name, unless all columns are called like that
  unnamed <- grepl("^(v1|x1|[.]+1)$", names[1L], ignore.case = TRUE) &&
    length(unique(sub("[0-9]+$", "", names[1:2]))) == 2L
  unnamed || grepl(of_ids, names[1L], ignore.case = TRUE)
}

#' Coordinates as a double matrix with column names, and row names if somebody gave them
#' @noRd
as_coords <- function(coords, call, arg = "coords") {
  if (is.null(dim(coords)) && is.atomic(coords)) {
    coords <- data.frame(x = coords, row.names = names_if_unique(coords))
  } else if (methods::is(coords, "DataFrame")) {
    coords <- as.data.frame(coords, optional = TRUE)
  } else if (methods::is(coords, "Matrix")) {
    coords <- as.matrix(coords)
  }
  if (length(dim(coords)) != 2L) {
    abort_patina(
      c(
        "{.arg {arg}} has class {.cls {class(coords)}}.",
        i = "Give a data.frame or matrix with one row per spot and 1 to 3 numeric columns."
      ),
      class = "coords",
      call = call
    )
  }
  spots <- own_row_names(coords)
  table <- as.list(as.data.frame(coords))
  bad <- not_numbers(table)
  if (length(bad$which) > 0L) {
    abort_patina(
      c(
        "{.arg {arg}} has {length(bad$which)} column{?s} that {?is/are} not numeric:
          {.field {first_few(bad$label)}}.",
        i = "Keep the coordinates only; names of spots belong into the row names."
      ),
      class = "coords",
      call = call
    )
  }
  if (!length(table) %in% 1:3) {
    abort_patina(
      c(
        "{.arg {arg}} must have 1, 2 or 3 columns, not {length(table)}.",
        i = if (length(table) > 3L) {
          "Choose the coordinates, for example {.code {arg}[, c(\"x\", \"y\")]}."
        }
      ),
      class = "coords",
      call = call
    )
  }
  names <- colnames(coords)
  if (is.null(names) || anyNA(names) || any(names == "") || anyDuplicated(names)) {
    names <- c("x", "y", "z")[seq_along(table)]
  }
  if (length(names) > 1L && numbers_spots(names)) {
    abort_patina(
      c(
        "The first column of {.arg {arg}}, {.field {names[1]}}, looks like numbers of the spots, not like a
          coordinate.",
        i = "Take the others, {.code {arg}[-1]}; or rename the column if it is a coordinate."
      ),
      class = "coords",
      call = call
    )
  }
  # a table of coordinates and totals makes a tissue with a very long third dimension
  if (length(names) == 3L && grepl("count|total|umi|sum", names[3L], ignore.case = TRUE)) {
    abort_patina(
      c(
        "The third column of {.arg {arg}}, {.field {names[3]}}, does not look like a coordinate.",
        i = "Take the first two, {.code {arg}[, c(\"{names[1]}\", \"{names[2]}\")]}; or rename the
          column if it is one."
      ),
      class = "coords",
      call = call
    )
  }
  matrix(
    as.double(unlist(table, use.names = FALSE)),
    ncol = length(table),
    dimnames = list(spots, free_names(names))
  )
}

#' Names of coordinates that no other column of results has: `value` becomes `value_coord`
#' @noRd
free_names <- function(names) {
  own <- c("spot", "sample", "gene", "pattern", "factor", "domain", "probability")
  own <- c(own, "value", "mean", "se", "lower", "upper", "beyond")
  taken <- names %in% own | grepl("^(pattern|factor|se)_[0-9]+$", names)
  ifelse(taken, paste0(names, "_coord"), names)
}

#' The table of the spots, in their order; without columns if there is none
#' @noRd
as_samples <- function(sample_info, spots, n_spots, call, x_arg = "x") {
  if (is.null(sample_info)) {
    return(data.frame(row.names = seq_len(n_spots)))
  }
  if (methods::is(sample_info, "DataFrame")) {
    sample_info <- as.data.frame(sample_info, optional = TRUE)
  }
  if (!is.data.frame(sample_info)) {
    abort_patina(
      "{.arg sample_info} must be a data.frame with one row per spot, not of class
        {.cls {class(sample_info)}}.",
      class = "argument",
      call = call
    )
  }
  named <- own_row_names(sample_info)
  if (nrow(sample_info) != n_spots && (is.null(spots) || is.null(named))) {
    abort_patina(
      "{.arg sample_info} has {nrow(sample_info)} row{?s}, but {.arg {x_arg}} has {n_spots} spot{?s}.",
      class = "argument",
      call = call
    )
  }
  samples <- sample_info |>
    keep_row_names(named) |>
    match_spots(spots, call, arg = "sample_info", x_arg = x_arg)
  unname_rows(samples)
}

#' A plain data.frame, without groups, and with row names only if somebody gave them
#' @noRd
keep_row_names <- function(table, named) {
  table <- as.data.frame(table)
  rownames(table) <- named
  table
}

#' Samples as a factor, or `NULL` if there is only one
#' @noRd
as_sample_id <- function(sample_id, samples, spots, n_spots, call) {
  if (is.null(sample_id)) {
    return(NULL)
  }
  if (rlang::is_string(sample_id) && n_spots > 1L) {
    if (!sample_id %in% names(samples)) {
      abort_patina(
        c(
          "{.arg sample_id} names the column {.val {sample_id}}, which the sample table does not
            have.",
          i = if (ncol(samples) > 0L) {
            "Its columns are {.val {first_few(names(samples), 10L)}}."
          } else {
            "Give the table as {.arg sample_info}, or one value per spot."
          }
        ),
        class = "argument",
        call = call
      )
    }
    sample_id <- samples[[sample_id]]
  } else if (!is.atomic(sample_id) || length(sample_id) != n_spots) {
    abort_patina(
      c(
        "{.arg sample_id} must be the name of a column of the sample table or have one value per
          spot.",
        x = "It has {length(sample_id)} value{?s}; {.arg x} has {n_spots} spot{?s}."
      ),
      class = "argument",
      call = call
    )
  } else if (!is.null(names_if_unique(sample_id))) {
    table <- data.frame(id = sample_id, row.names = names(sample_id))
    sample_id <- match_spots(table, spots, call, arg = "sample_id")$id
  }
  if (anyNA(sample_id)) {
    abort_patina(
      "{.arg sample_id} is missing for {sum(is.na(sample_id))} spot{?s}.",
      class = "argument",
      call = call
    )
  }
  sample_id <- factor(unname(sample_id))
  if (nlevels(sample_id) > 1L) sample_id else NULL
}

#' Number of spots in `x` and `coords`; tells a transposed `x` from a wrong one
#' @noRd
check_shape <- function(coords, expression, call) {
  n <- nrow(coords)
  n_spots <- expression$n_spots
  n_genes <- length(expression$genes)
  spots_in_rows <- expression$spots_in_rows
  named <- rownames(coords)
  all_named <- !is.null(named) && !is.null(expression$spots) && expression$named_genes
  other_way <- if (all_named) {
    !any(named %in% expression$spots) && mean(named %in% expression$genes) > 0.5
  } else {
    n_spots != n && n_genes == n
  }
  if (other_way) {
    abort_patina(
      c(
        "{.arg x} looks transposed: the {n} rows of {.arg coords} match its
          {if (spots_in_rows) 'columns' else 'rows'}.",
        i = if (spots_in_rows) {
          "A data.frame has spots in rows and genes in columns; a matrix the other way round: use
            {.code as.matrix(x)}."
        } else {
          "A matrix has genes in rows and spots in columns: use {.code t(x)}."
        }
      ),
      class = "transposed",
      call = call
    )
  }
  if (n_spots != n && (is.null(named) || is.null(expression$spots))) {
    abort_patina(
      c(
        "{.arg x} has {n_spots} spot{?s} ({if (spots_in_rows) 'row' else 'column'}{cli::qty(n_spots)}{?s}) and
          {.arg coords} has {n} row{?s}.",
        i = "Give one row of coordinates for each spot, in the same order or with the same names."
      ),
      class = "coords",
      call = call
    )
  }
}

#' Enough spots, at finite places that are not all the same, in each sample
#' @noRd
check_locations <- function(input, call) {
  coords <- input$coords
  spots <- input$spots
  sample_id <- input$sample_id
  bad <- which(!rowSums(is.finite(coords)) == ncol(coords))
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "{.arg coords} is not finite for {length(bad)} spot{?s}: {.val {first_few(spots[bad])}}.",
        i = "Remove these spots from {.arg x} and {.arg coords}."
      ),
      class = "coords",
      call = call
    )
  }
  rows <- split(
    seq_along(spots),
    sample_id %||% factor(rep("all", length(spots)))
  )
  few <- names(rows)[lengths(rows) < 5L]
  if (length(spots) == 0L || length(few) > 0L) {
    message <- if (is.null(sample_id)) {
      "At least 5 spots are needed, and {.arg x} has {length(spots)}."
    } else {
      c(
        "At least 5 spots are needed in each sample, and {.val {few[1]}} has {lengths(rows)[few[1]]}.",
        i = if (length(rows) > length(spots) / 3) {
          "{.arg sample_id} has {length(rows)} values for {length(spots)} spots: it seems to name spots, not
            samples."
        } else {
          "Leave out {cli::qty(length(few))}{?this sample/the {length(few)} samples as small as that}."
        }
      )
    }
    abort_patina(message, class = "too_few_spots", call = call)
  }
  is_same <- vapply(
    rows,
    \(i) all(coords[i, ] == rep(coords[i[1L], ], each = length(i))),
    logical(1L)
  )
  same <- names(rows)[is_same]
  if (length(same) > 0L) {
    message <- if (is.null(sample_id)) {
      "All {length(spots)} spots have the same {.arg coords}: at least two must differ."
    } else {
      "All spots of sample {.val {same[1]}} have the same {.arg coords}: at least two must differ."
    }
    abort_patina(message, class = "coords", call = call)
  }
  if (length(rows) > 1L) {
    report_units(coords, rows)
  }
}

# Spacings of samples in one unit differ by less than this, even if techniques do.
most_spacings <- 20

#' Say if neighbours are so far apart in one sample that its coordinates seem to have another unit
#' @noRd
report_units <- function(coords, rows) {
  spacing <- vapply(rows, \(own) spot_spacing(coords[own, , drop = FALSE]), numeric(1L))
  ends <- c(which.min(spacing), which.max(spacing))
  if (spacing[ends[2L]] > most_spacings * spacing[ends[1L]]) {
    inform_patina(c(
      "Neighbours are {signif(spacing[ends[1]], 2)} apart in sample {.val {names(rows)[ends[1]]}} and
        {signif(spacing[ends[2]], 2)} in {.val {names(rows)[ends[2]]}}.",
      i = "Samples share their lengthscales: {.arg coords} must have the same unit in all of them."
    ))
  }
}
