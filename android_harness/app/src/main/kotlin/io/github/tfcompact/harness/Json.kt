package io.github.tfcompact.harness

/** What is wrong with a file or a request, in one line that says what to do. */
open class UserError(message: String) : Exception(message)

/** What an error says, in one line; its name where it says nothing. */
fun oneLine(error: Throwable): String =
    error.message.orEmpty().lines().joinToString(" ") { it.trim() }.trim().ifEmpty { error.javaClass.simpleName }

/**
 * JSON (RFC 8259) as plain Kotlin: `Map<String, Any?>`, `List<Any?>`, `String`, `Long`, `Double`, `Boolean` and null.
 *
 * Strict, since what it reads was written by a program: a key twice, a number that no double holds, a lone surrogate
 * or anything after the value is an error. A number is a `Long` where it is written without fraction and exponent.
 */
object Json {
    private const val DEEPEST = 64

    /** The value of a text. Throws [UserError] with the place where the text is not JSON. */
    fun parse(text: String): Any? = Parser(text).whole()

    /** The text of a value, keys in the order of the map, with [indent] spaces a level; 0 puts all in one line. */
    fun write(value: Any?, indent: Int = 1): String = StringBuilder().also { append(it, value, indent, 0) }.toString()

    private fun append(out: StringBuilder, value: Any?, indent: Int, level: Int) {
        when (value) {
            null -> out.append("null")
            is String -> appendString(out, value)
            is Boolean, is Long, is Int -> out.append(value.toString())
            is Double -> {
                if (value.isNaN() || value.isInfinite()) throw UserError("JSON has no number $value")
                out.append(value.toString())
            }
            is Map<*, *> -> {
                val entries = value.entries.map { it.key as String to it.value }
                appendAll(out, entries, '{', '}', indent, level) { (key, item) ->
                    appendString(out, key)
                    out.append(": ")
                    append(out, item, indent, level + 1)
                }
            }
            is List<*> -> appendAll(out, value, '[', ']', indent, level) { append(out, it, indent, level + 1) }
            else -> throw UserError("JSON cannot hold a ${value.javaClass.simpleName}")
        }
    }

    private fun <T> appendAll(
        out: StringBuilder, items: List<T>, open: Char, close: Char, indent: Int, level: Int, item: (T) -> Unit,
    ) {
        out.append(open)
        items.forEachIndexed { i, each ->
            if (i > 0) out.append(if (indent > 0) "," else ", ")
            if (indent > 0) out.append('\n').append(" ".repeat(indent * (level + 1)))
            item(each)
        }
        if (indent > 0 && items.isNotEmpty()) out.append('\n').append(" ".repeat(indent * level))
        out.append(close)
    }

    private fun appendString(out: StringBuilder, text: String) {
        out.append('"')
        for (c in text) {
            when {
                c == '"' -> out.append("\\\"")
                c == '\\' -> out.append("\\\\")
                c == '\n' -> out.append("\\n")
                c == '\t' -> out.append("\\t")
                c < ' ' || c.isSurrogate() || c == '\u2028' || c == '\u2029' ->
                    out.append("\\u").append(c.code.toString(16).padStart(4, '0'))
                else -> out.append(c)
            }
        }
        out.append('"')
    }

    private class Parser(private val text: String) {
        private var at = 0

        fun whole(): Any? {
            val value = value(0)
            space()
            if (at < text.length) fail("nothing after the value")
            return value
        }

        private fun value(depth: Int): Any? {
            if (depth > DEEPEST) fail("at most $DEEPEST levels")
            space()
            if (at >= text.length) fail("a value")
            return when (text[at]) {
                '{' -> map(depth)
                '[' -> list(depth)
                '"' -> string()
                't' -> word("true", true)
                'f' -> word("false", false)
                'n' -> word("null", null)
                else -> number()
            }
        }

        private fun map(depth: Int): Map<String, Any?> {
            val map = LinkedHashMap<String, Any?>()
            at++
            space()
            if (take('}')) return map
            while (true) {
                space()
                if (at >= text.length || text[at] != '"') fail("a key in quotes")
                val key = string()
                if (key in map) throw UserError("JSON: key '$key' twice")
                space()
                if (!take(':')) fail("':'")
                map[key] = value(depth + 1)
                space()
                if (take('}')) return map
                if (!take(',')) fail("',' or '}'")
            }
        }

        private fun list(depth: Int): List<Any?> {
            val list = ArrayList<Any?>()
            at++
            space()
            if (take(']')) return list
            while (true) {
                list.add(value(depth + 1))
                space()
                if (take(']')) return list
                if (!take(',')) fail("',' or ']'")
            }
        }

        private fun string(): String {
            val out = StringBuilder()
            at++
            while (true) {
                if (at >= text.length) fail("'\"'")
                val c = text[at++]
                when {
                    c == '"' -> break
                    c == '\\' -> out.append(escaped())
                    c < ' ' -> fail("no control character in a string")
                    else -> out.append(c)
                }
            }
            for (i in out.indices) {
                val paired = when {
                    out[i].isHighSurrogate() -> i + 1 < out.length && out[i + 1].isLowSurrogate()
                    out[i].isLowSurrogate() -> i > 0 && out[i - 1].isHighSurrogate()
                    else -> true
                }
                if (!paired) fail("no lone surrogate")
            }
            return out.toString()
        }

        private fun escaped(): Char {
            if (at >= text.length) fail("an escape")
            return when (val c = text[at++]) {
                '"', '\\', '/' -> c
                'b' -> '\b'
                'f' -> '\u000c'
                'n' -> '\n'
                'r' -> '\r'
                't' -> '\t'
                'u' -> {
                    val digits = text.substring(at, minOf(at + 4, text.length))
                    if (digits.length < 4 || !digits.all { it in '0'..'9' || it in 'a'..'f' || it in 'A'..'F' }) {
                        fail("four hexadecimal digits")
                    }
                    at += 4
                    digits.toInt(16).toChar()
                }
                else -> fail("one of the escapes of JSON")
            }
        }

        private fun number(): Any {
            val match = NUMBER.find(text, at)
            if (match == null || match.range.first != at) fail("a value")
            at = match.range.last + 1
            val word = match.value
            if (word.none { it == '.' || it == 'e' || it == 'E' }) {
                return word.toLongOrNull() ?: throw UserError("JSON: $word is too large a number")
            }
            val value = word.toDouble()
            if (value.isInfinite()) throw UserError("JSON: $word is too large a number")
            return value
        }

        private fun word(word: String, value: Any?): Any? {
            if (!text.startsWith(word, at)) fail("a value")
            at += word.length
            return value
        }

        private fun space() {
            while (at < text.length && text[at] in " \t\r\n") at++
        }

        private fun take(c: Char): Boolean = (at < text.length && text[at] == c).also { if (it) at++ }

        private fun fail(expected: String): Nothing = throw UserError("JSON: expected $expected at character $at")
    }

    private val NUMBER = Regex("-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
}

/** One JSON object while it is read: every key must be asked for, and none that is not there may be. */
class Fields(value: Any?, private val of: String) {
    private val map: Map<String, Any?>
    private val asked = HashSet<String>()

    init {
        if (value !is Map<*, *>) throw UserError("$of must be an object, not ${kind(value)}")
        @Suppress("UNCHECKED_CAST")
        map = value as Map<String, Any?>
    }

    /** Throws [UserError] where a key was given that nothing asked for. Call it last. */
    fun end() {
        val unknown = map.keys.firstOrNull { it !in asked }
        if (unknown != null) throw UserError("$of: unknown key '$unknown'; known: ${asked.joinToString()}")
    }

    fun has(name: String): Boolean = name in map.also { asked.add(name) }

    fun text(name: String): String = taken(name) as? String ?: wrong(name, "a string")

    fun int(name: String): Int =
        long(name).also { if (it.toInt().toLong() != it) wrong(name, "a smaller number") }.toInt()

    fun long(name: String): Long = taken(name) as? Long ?: wrong(name, "a whole number")

    fun double(name: String): Double = real(taken(name)) ?: wrong(name, "a number")

    fun boolean(name: String): Boolean = taken(name) as? Boolean ?: wrong(name, "true or false")

    fun textOr(name: String, default: String): String = if (has(name)) text(name) else default

    fun <T : Any> orNull(name: String, read: (String) -> T): T? = if (taken(name) == null) null else read(name)

    fun <T> list(name: String, read: (Any?) -> T): List<T> =
        (taken(name) as? List<*> ?: wrong(name, "a list")).map(read)

    fun doubles(name: String): List<Double> = list(name) { real(it) ?: wrong(name, "a list of numbers") }

    fun flags(name: String): Map<String, Boolean> {
        val given = taken(name) as? Map<*, *> ?: wrong(name, "an object")
        return given.entries.associate { it.key as String to (it.value as? Boolean ?: wrong(name, "true and false")) }
    }

    fun any(name: String): Any? = taken(name)

    private fun taken(name: String): Any? {
        if (!has(name)) throw UserError("$of: key '$name' is missing")
        return map[name]
    }

    private fun real(value: Any?): Double? = (value as? Double) ?: (value as? Long)?.toDouble()

    private fun wrong(name: String, expected: String): Nothing =
        throw UserError("$of: $name must be $expected, not ${kind(map[name])}")

    private fun kind(value: Any?): String = when (value) {
        null -> "null"
        is String -> "'$value'"
        is Map<*, *> -> "an object"
        is List<*> -> "a list"
        else -> value.toString()
    }
}
