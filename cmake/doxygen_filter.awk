# Changes a header so that Doxygen understands it: removes attributes, and puts a group around the
# declarations that share a docstring. A docstring holds for all declarations that follow it, up to a
# blank line or another comment; if it is a list of `- NAME, NAME: TEXT`, each variable that follows
# gets the text under its name. Every line keeps its number, so that warnings name the right one.
# Usage: awk -f doxygen_filter.awk HEADER
{
  gsub(/\[\[(gnu::|nodiscard|noreturn)[^]]*\]\] */, "")
  line[NR] = $0
}
function indent(i) { match(line[i], /^ */); return RLENGTH }
function count(text, what) { return gsub(what, "", text) }

# The last line of the declarations that share the docstring in front of line i, if these are
# several functions or variables, which may also read `Tensor x, y;`; else 0.
function end_of_group(i,    depth, open, braces, all, last, text) {
  depth = indent(i)
  for (; i <= NR; ++i) {
    text = line[i]
    if (!open) {
      if (indent(i) != depth || text ~ /^ *($|\/\/|#|\}|public:|private:|protected:)/) break
      if (text ~ /^ *(template *<.*> *)?((friend )?(class|struct)|namespace|enum|concept) /) break
      if (text ~ /\/\/\/</) break
      open = 1
    }
    sub(/ *\/\/.*/, "", text)
    braces += count(text, "[{(]") - count(text, "[)}]")
    if (braces == 0 && text ~ /[;}]$/) {
      open = 0
      last = i
      all += text ~ /,/ && text !~ /\(/ ? 2 : 1
    }
  }
  return all > 1 ? last : 0
}

# Gives the variables that follow the list on the lines from `first` to `last` their texts.
function distribute(first, last,    i, k, names, text, item, of, at, rest) {
  for (i = first; i <= last; ++i) {
    item = line[i]
    line[i] = ""
    if (sub(/^ *\/\/\/ - /, "", item)) {
      at = index(item, ":")
      k = split(substr(item, 1, at - 1), names, /, */)
      text = substr(item, at + 2)
    } else {
      sub(/^ *\/\/\/ */, "", item)
      text = text " " item
    }
    for (at = 1; at <= k; ++at) of[names[at]] = text
  }
  for (; line[i] ~ /^ *[A-Za-z]/ && line[i] !~ /^ *static /; ++i) {
    rest = line[i]
    line[i] = ""
    while (match(rest, /[A-Za-z_0-9]+( = [^,;]*)?[,;]/)) {
      item = substr(rest, RSTART, RLENGTH)
      line[i] = line[i] substr(rest, 1, RSTART + RLENGTH - 1)
      rest = substr(rest, RSTART + RLENGTH)
      sub(/[ ,;].*/, "", item)
      if (item in of) line[i] = line[i] " /**< " of[item] " */"
    }
    line[i] = line[i] rest
  }
}
END {
  # Functions that exist only to be refused, and comparisons of all members, need no docstring.
  for (i = 1; i <= NR; ++i) {
    if (line[i] ~ /operator==.*= default;/) line[i] = ""
    if (line[i] !~ /unavailable\(/) continue
    for (first = i; line[first - 1] !~ /[;{}]$|^ *(\/\/.*)?$/;) --first
    for (last = i; line[last] !~ /;$/;) ++last
    for (; first <= last; ++first) line[first] = " "
    i = last
  }
  # What an update rule has behind its options is for the optimizer, and the same in every rule:
  # Optimizer says what each is.
  for (i = 1; i <= NR; ++i) {
    if (line[i] ~ /^template <> .*Rule<double>::/) line[i] = ""
    if (line[i] !~ /^template <class S = double> struct [A-Za-z]+Rule \{/) continue
    while (i < NR && line[i] !~ /^  static /) ++i
    for (; line[i] !~ /^\};/; ++i) line[i] = ""
  }
  for (i = 1; i <= NR; ++i) {
    if (line[i] !~ /^ *\/\/\/([^<]|$)/ || line[i] ~ /@file/) continue
    for (first = i; line[i + 1] ~ /^ *\/\/\//;) ++i
    if (line[first] ~ /^ *\/\/\/ - /) {
      distribute(first, i)
      continue
    }
    if ((last = end_of_group(i + 1)) == 0) continue
    sub(/(^| +)\/\/[^\/].*|$/, "/**@{*/", line[first - 1])
    sub(/ *\/\/.*|$/, "/**@}*/", line[last])
  }
  for (i = 1; i <= NR; ++i) print line[i]
}
